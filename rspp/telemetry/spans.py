"""One span: drafted from evidence, made when its turn is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from rspp.telemetry.context import SERVICE

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from rspp.telemetry.context import SessionContext

MAX_EVENTS = 64
SCOPE = InstrumentationScope(SERVICE)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Draft:
    """A span that is not complete yet.

    Args:
        name: ``turn_span``, ``node_span`` or ``provider_invocation_span``.
        start_us: kernel time, microseconds.
        attributes: what is known of it.
        end_us: kernel time; negative while unknown.

    Attributes:
        failure: reason code when what the span stands for failed.
    """

    def __init__(self, name: str, start_us: int, attributes: dict[str, Any], end_us: int = -1) -> None:
        self.name = name
        self.start_us = start_us
        self.end_us = end_us
        self.attributes = attributes
        self.failure = ""
        self.events: list[tuple[int, str, dict[str, Any]]] = []
        self.events_left_out = 0

    def event(self, at_us: int, name: str, attributes: dict[str, Any]) -> None:
        """Add something that happened; only the first ones are kept."""
        if len(self.events) < MAX_EVENTS:
            self.events.append((at_us, name, attributes))
        else:
            self.events_left_out += 1


def span_of(
    context: SessionContext,
    resource: Resource,
    turn_id: str,
    path: tuple[str, ...],
    draft: Draft,
    common: dict[str, Any],
) -> ReadableSpan:
    """Return the span of a draft.

    Args:
        context: the session.
        resource: the process.
        turn_id: the turn.
        path: place in the turn's tree: (), (node,) or (node, invocation).
        draft: the span.
        common: correlation attributes; the draft's own win.
    """

    def identity(place: tuple[str, ...]) -> SpanContext:
        return SpanContext(
            context.trace_id(turn_id), context.span_id(turn_id, *place), is_remote=False, trace_flags=_SAMPLED
        )

    end_us = max(draft.end_us, draft.start_us)
    start_ns, end_ns = context.wall_ns(draft.start_us), context.wall_ns(end_us)
    attributes = common | draft.attributes
    attributes |= {
        "rspp.runtime_timestamp_ms": draft.start_us // 1000,
        "rspp.wall_clock_timestamp_ms": start_ns // 1_000_000,
    }
    if draft.events_left_out:
        attributes["rspp.events_left_out"] = draft.events_left_out
    return ReadableSpan(
        name=draft.name,
        context=identity(path),
        parent=identity(path[:-1]) if path else None,
        resource=resource,
        attributes=attributes,
        events=[Event(name, told, context.wall_ns(at_us)) for at_us, name, told in draft.events],
        kind=SpanKind.CLIENT if len(path) == 2 else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, draft.failure) if draft.failure else Status(StatusCode.UNSET),
        start_time=start_ns,
        end_time=end_ns,
        instrumentation_scope=SCOPE,
    )
