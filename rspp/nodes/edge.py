"""Makes the buffer of an edge from the compiled graph, so that the plan says what really holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from rspp._kernel import EdgeBuffer

if TYPE_CHECKING:
    from rspp.pipeline.graph import GraphEdge


def edge_buffer(edge: GraphEdge) -> EdgeBuffer[Any]:
    """Return an empty buffer with the bounds, marks and strategy of ``edge``.

    Raises:
        ValueError: a bound is out of range; the compiler lets none pass.
    """
    policy = edge.buffer
    marks = policy.watermarks.queue_items
    if marks is UNSET:
        raise ValueError(f"edge {edge.id} has no watermarks in items")
    times, sync = policy.watermarks.queue_ms, policy.sync_drop_policy
    return EdgeBuffer(
        edge_id=edge.id,
        strategy=policy.strategy,
        max_items=policy.max_queue_items,
        max_ms=policy.max_queue_ms,
        max_bytes=policy.max_queue_bytes,
        high_items=marks.high,
        low_items=marks.low,
        high_ms=0 if times is UNSET else times.high,
        low_ms=0 if times is UNSET else times.low,
        max_latency_ms=policy.max_latency_contribution_ms,
        lane=edge.lane,
        flow=edge.flow_control,
        sync_policy="no_sync" if sync is UNSET else sync.policy,
        sync_scope="edge_local" if sync is UNSET else sync.scope,
        sync_domain="" if sync is UNSET or sync.sync_domain is UNSET else sync.sync_domain,
        max_block_ms=None if policy.max_block_time_ms is UNSET else policy.max_block_time_ms,
    )


def pressure_of(edge: EdgeBuffer[Any]) -> dict[str, Any]:
    """Return the fields of a pressure record: what waits on an edge, ms, and what it has shed, items."""
    return {"edge": edge.edge_id, "queued_ms": edge.queued_us // 1000, "shed": edge.shed}
