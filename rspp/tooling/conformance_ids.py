"""The ids that a run must account for: failure matrix, conformance plan, and known weaknesses.

Sections 14 and 16 of the contracts give the ids and what each must show. A test carries an id by its name
(``test_g_07_…``, ``ml_002_…``) or by ``@pytest.mark.conformance("CT-001")``.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Requirement(NamedTuple):
    """One id.

    Attributes:
        id: as the contracts write it.
        text: what must be shown.
        open: why it cannot be shown whole today; empty when it can, and then a test must carry it.
    """

    id: str
    text: str
    open: str = ""


REQUIREMENTS = (
    Requirement("F1", "Admission overload: refused before the turn, shed at the scheduling points"),
    Requirement("F2", "Node timeout or failure: abort(node_timeout_or_failure), close"),
    Requirement("F3", "Provider failure: retry, switch, or abort with the provider's reason, close"),
    Requirement("F4", "Edge pressure: watermark, xoff and xon, drop notices; the turn goes on"),
    Requirement("F5", "Sync-coupled loss: discontinuity or atomic drop; the turn goes on"),
    Requirement("F6", "Transport disconnect or stall: fenced, abort(transport_disconnect_or_stall), close"),
    Requirement("F7", "Authority conflict: stale epochs refused, a revoke drains, aborts and closes"),
    Requirement("F8", "Failover and migration: the old placement drains, the new one goes on"),
    Requirement("CT-001", "Valid fixtures are accepted and invalid ones refused by the schema"),
    Requirement("CT-002", "Signals are emitted by their owners only; unknown signals are refused"),
    Requirement("CT-003", "Legal transitions only; failures before the turn stay before the turn"),
    Requirement(
        "CT-004", "A plan is frozen with provenance; equal inputs, equal plan; another epoch, another hash"
    ),
    Requirement("CT-005", "Decisions keep to the matrix of emitter, phase and scope"),
    Requirement("CT-006", "Turn-start resolution is the same by file, environment and HTTP"),
    Requirement("RD-001", "Replaying recorded decisions gives no divergence"),
    Requirement("RD-002", "Recomputed timing passes within the tolerance and is TIMING above it"),
    Requirement("RD-003", "Evidence is complete over accepted turns; refusals before a turn do not count"),
    Requirement("RD-004", "A mismatch of provenance is PLAN and must be declared"),
    Requirement("RD-005", "Latency thresholds of invocations fail deterministically in the right scope"),
    Requirement("CF-001", "A cancel during generation: abort(cancelled), close, no accepted output"),
    Requirement("CF-002", "Late provider output is fenced with playback_cancelled"),
    Requirement("CF-003", "Exactly one terminal on the way of a cancel"),
    Requirement("CF-004", "Evidence has the markers of cancel sent, accepted and fenced"),
    Requirement("AE-001", "A stale epoch before the turn: stale_epoch_reject and nothing else"),
    Requirement("AE-002", "A revoke in the turn: its sequence, and it wins over a cancel at the same point"),
    Requirement("AE-003", "Output of an old placement is refused; no split brain"),
    Requirement("AE-004", "A missing epoch is enriched deterministically"),
    Requirement("AE-005", "A revoke before the turn: deauthorized_drain and no opening"),
    Requirement("ML-001", "drop_notice is deterministic, with a valid range and reason"),
    Requirement("ML-002", "Merge lineage is deterministic and complete"),
    Requirement("ML-003", "A drop is told apart from an absence that nothing explains"),
    Requirement("ML-004", "Discontinuity and reset markers are deterministic"),
    Requirement("G-01", "Authority fails closed when its store fails"),
    Requirement("G-02", "The recorder is drained: turns beyond any capacity are recorded"),
    Requirement("G-03", "Evidence reaches the disk and survives a crash"),
    Requirement("G-04", "Evidence is recorded, never invented"),
    Requirement("G-05", "The arbiter keeps its state: one terminal, never without an opening"),
    Requirement("G-06", "Total latency covers all attempts; a success is never unrecordable"),
    Requirement("G-07", "An open circuit ends in a terminal reason with rising sequences"),
    Requirement("G-08", "A turn uses its frozen plan only"),
    Requirement("G-09", "The plan hash covers the whole plan"),
    Requirement("G-10", "Release publishing works with its own tool's reports"),
    Requirement("G-11", "The egress gate checks epochs and counts what it refuses"),
    Requirement("G-12", "Replay and SLO gates are fed by recorded runs"),
    Requirement("G-13", "A failure within the budget goes on where the plan allows it"),
    Requirement("G-14", "Signal, credit and hybrid flow control"),
    Requirement("G-15", "degrade in a plan is no error for provider invocations"),
    Requirement("G-16", "At most 64 different sources in a merge"),
    Requirement("G-17", "The bound on provider candidates holds"),
    Requirement("G-18", "One validator of emitters and reasons, made from the registry"),
    Requirement("G-19", "turn_open_proposed has session scope"),
    Requirement("G-20", "A turn's life is emitted and recorded as control signals"),
    Requirement("G-21", "Event ids repeat over no restart, session or epoch"),
    Requirement("G-22", "The order of missing_expected does not change"),
    Requirement("G-23", "Terminal markers fit even when evidence has no room"),
    Requirement("G-24", "Capacity, marks and validity are computed, not told"),
    Requirement("G-25", "No adaptive action is not the default actions"),
    Requirement("G-26", "The runtime renews, drains itself at the deadline, and epochs only rise"),
    Requirement("M-01", "Audio enters and leaves through a real room"),
    Requirement("M-02", "Every entry point does its work"),
    Requirement("M-03", "Events flow between nodes, streamed, partials included"),
    Requirement("M-04", "Edges hold the bounds of the plan"),
    Requirement("M-05", "Control preempts data and telemetry"),
    Requirement("M-06", "Barge-in, stop and cancel are emitted and reach a provider call in flight"),
    Requirement("M-07", "Voice activity and end of turn are detected"),
    Requirement("M-08", "Providers stream what they are asked, and waits are waited"),
    Requirement("M-09", "Circuits have state; bindings name real adapters"),
    Requirement("M-10", "Replay engine, cursor and modes"),
    Requirement("M-11", "Absent modules: RK-09, CP-06, DX-06", "needs later parts of the plan"),
    Requirement("M-12", "Specs, profiles and graphs have schemas and a compiler"),
    Requirement("M-13", "Memory of recording is bounded and its level goes down with a marker"),
    Requirement("M-14", "Telemetry export with spans, queue depth and drops"),
    Requirement("M-15", "Security of section 15.3", "needs the security part of the plan"),
    Requirement("M-16", "Snapshots are distributed with versions, off the turn-open path"),
    Requirement("M-17", "Several regions", "needs a second region"),
    Requirement(
        "M-18",
        "Load, soak, fuzz and benchmark exist",
        "load and benchmarks are targets of make and not tests",
    ),
    Requirement("M-19", "Container, chart and manifest", "needs the deployment part of the plan"),
    Requirement("M-20", "Tenants in the runtime path"),
    Requirement("W-01", "Ranges and watermarks may not be reversed"),
    Requirement("W-02", "A document is validated against its own kind"),
    Requirement("W-03", "tenant_id, trace_id and payload_ref from the minor version on"),
    Requirement("W-04", "The signals that were missing exist"),
    Requirement("W-05", "Evidence without a field has a record beside the decision"),
    Requirement("W-06", "Admission outcomes inside a turn are refused"),
    Requirement("W-07", "Block time is tied to lane handling"),
    Requirement("W-08", "Order and uniqueness over documents are checked"),
    Requirement("W-09", "Reasons are closed for each signal"),
)

_WORD = re.compile(r"(ct|rd|cf|ae|ml|g|m|w|f)(\d*)")
_PLACES = {"f": 1, "g": 2, "m": 2, "w": 2}
OTHER_ROWS = re.compile(r"[ta]\d{1,2}a?")
"""Rows of the truth table and its assertions, which stand in names beside the ids."""


def ids_in_name(name: str) -> tuple[str, ...]:
    """Return the ids that the name of a test begins with, such as ``test_g_06_g_07_…``."""
    words = name.removeprefix("test_").split("_")
    found: list[str] = []
    index = 0
    while index < len(words):
        match = _WORD.fullmatch(words[index])
        if match is None:
            if OTHER_ROWS.fullmatch(words[index]) or (found and words[index] == "and"):
                index += 1
                continue
            break
        family, digits = match.groups()
        index += 1
        if not digits and index < len(words):
            digits = words[index]
            index += 1
        if not digits.isdigit() or len(digits) != _PLACES.get(family, 3):
            break
        found.append(f"{family.upper()}{digits}" if family == "f" else f"{family.upper()}-{digits}")
    return tuple(found)
