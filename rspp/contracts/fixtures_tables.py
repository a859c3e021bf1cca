"""Fixtures of transitions, decisions and bundles: every cell of their tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rspp import _kernel
from rspp.contracts.envelope import registry
from rspp.contracts.fixtures import Fixture, invalid, valid
from rspp.contracts.samples import ABSENT, bundle, changed, control, decision, event, transition

if TYPE_CHECKING:
    from collections.abc import Iterator

TRANSITION, DECISION, BUNDLE = "turn_transition", "decision_outcome", "artifact_bundle"
STATES = ("Idle", "Opening", "Active", "Terminal", "Closed")
DECIDERS = ("RK-24", "RK-25", "CP-05")
PHASES = ("pre_turn", "scheduling_point", "active_turn")
SCOPES = ("tenant", "session", "turn", "edge_enqueue", "edge_dequeue", "node_dispatch")


def fixtures() -> Iterator[Fixture]:
    """Yield every fixture of transitions, decisions and bundles."""
    yield from _transitions()
    yield from _decision_fields()
    yield from _decision_cells()
    yield from _bundles()


def _transitions() -> Iterator[Fixture]:
    table = _kernel.transition_table()
    leaving = {(start, trigger): to for start, trigger, to in table}
    shows = ("transition.final", "transition.trigger", "transition.target", "transition.deterministic")
    triggers = [trigger for _, trigger, _ in table]
    for start in STATES:
        for trigger in triggers:
            to = leaving.get((start, trigger))
            name = f"{start}-{trigger}"
            if to is None:
                final = start == "Closed"
                rule, field = (
                    ("transition.final", "from_state") if final else ("transition.trigger", "trigger")
                )
                yield invalid(TRANSITION, rule, field, transition(start, trigger, "Closed"), name)
                continue
            yield valid(TRANSITION, f"{name}-{to}", transition(start, trigger, to), *shows)
            for other in STATES:
                if other != to:
                    wrong = transition(start, trigger, other)
                    yield invalid(TRANSITION, "transition.target", "to_state", wrong, f"{name}-{other}")
    base = transition()
    for field in base:
        yield invalid(TRANSITION, "shape.required", field, changed(base, **{field: ABSENT}))
        yield invalid(TRANSITION, "shape.type", field, changed(base, **{field: 1}))
        if field != "deterministic":
            yield invalid(TRANSITION, "shape.word", field, changed(base, **{field: "Other"}))
    unsure = changed(base, deterministic=False)
    yield invalid(TRANSITION, "transition.deterministic", "deterministic", unsure)
    yield invalid(TRANSITION, "shape.unknown_field", "turn_id", changed(base, turn_id="turn-3-1"))


def _decision_fields() -> Iterator[Fixture]:
    base = decision()
    yield valid(DECISION, "auxiliary-time", changed(base, timestamp_ms=1), "shape.type")
    for field in base:
        if field not in ("turn_id", "authority_epoch"):
            yield invalid(DECISION, "shape.required", field, changed(base, **{field: ABSENT}))
        wrong: object = "1" if isinstance(base[field], int) else 1
        yield invalid(DECISION, "shape.type", field, changed(base, **{field: wrong}))
        if isinstance(base[field], int):
            yield invalid(DECISION, "shape.range", field, changed(base, **{field: -1}))
    for field in ("outcome_kind", "phase", "scope", "emitted_by"):
        yield invalid(DECISION, "shape.word", field, changed(base, **{field: "other"}))
    for field in ("session_id", "turn_id", "event_id", "reason"):
        yield invalid(DECISION, "shape.empty_text", field, changed(base, **{field: ""}))
    yield invalid(DECISION, "shape.unknown_field", "fairness_key", changed(base, fairness_key="tenant"))


def _decision_cells() -> Iterator[Fixture]:
    cells = _kernel.decision_matrix()
    shows = ("decision.emitter", "decision.phase", "decision.scope", "decision.reason")
    for outcome, emitter, phase, scope, needs_turn, needs_epoch in cells:
        name = f"{outcome}-{emitter}-{phase}-{scope}"
        least = decision(outcome, emitter, phase, scope)
        for field, needed, rule in (
            ("turn_id", needs_turn, "decision.turn_id"),
            ("authority_epoch", needs_epoch, "decision.epoch"),
        ):
            without = decision(outcome, emitter, phase, scope, **{field: ABSENT})
            if needed:
                yield invalid(DECISION, rule, field, without, name)
            else:
                least = changed(least, **{field: ABSENT})
        yield valid(DECISION, name, least, *shows, "decision.turn_id", "decision.epoch")
    for outcome in dict.fromkeys(cell[0] for cell in cells):
        emitter, phase, scope = next(cell[1:4] for cell in cells if cell[0] == outcome)
        for reason in registry()[outcome].reasons[1:]:
            document = decision(outcome, emitter, phase, scope, reason=reason)
            yield valid(DECISION, f"{outcome}-{reason}", document, "decision.reason")
        foreign = decision(outcome, emitter, phase, scope, reason="cancelled")
        yield invalid(DECISION, "decision.reason", "reason", foreign, outcome)
        yield from _illegal(outcome)


def _illegal(outcome: str) -> Iterator[Fixture]:
    legal = {cell[:4] for cell in _kernel.decision_matrix() if cell[0] == outcome}
    for emitter in DECIDERS:
        phases = {cell[2] for cell in legal if cell[1] == emitter}
        if not phases:
            document = decision(outcome, emitter)
            yield invalid(DECISION, "decision.emitter", "emitted_by", document, f"{outcome}-{emitter}")
            continue
        for phase in PHASES:
            name = f"{outcome}-{emitter}-{phase}"
            if phase not in phases:
                yield invalid(DECISION, "decision.phase", "phase", decision(outcome, emitter, phase), name)
                continue
            for scope in SCOPES:
                if (outcome, emitter, phase, scope) not in legal:
                    document = decision(outcome, emitter, phase, scope)
                    yield invalid(DECISION, "decision.scope", "scope", document, f"{name}-{scope}")


def _bundles() -> Iterator[Fixture]:
    base = bundle()
    yield valid(BUNDLE, "one-of-each", base, "shape.required", "shape.unknown_field")
    yield valid(BUNDLE, "control-signal-as-event", bundle(event=control("stop")), "event.no_signal")
    for part in base:
        yield invalid(BUNDLE, "shape.required", part, changed(base, **{part: ABSENT}))
        yield invalid(BUNDLE, "shape.type", part, changed(base, **{part: []}))
        yield invalid(BUNDLE, "shape.unknown_field", f"{part}.color", changed(base, **{f"{part}__color": 1}))
    yield invalid(BUNDLE, "shape.unknown_field", "color", changed(base, color=1))
    event_as_signal = bundle(control_signal=event())
    without = changed(event_as_signal, control_signal__signal="commit", control_signal__emitted_by="RK-03")
    without = changed(without, control_signal__payload_class="metadata")
    yield invalid(BUNDLE, "control.lane", "control_signal.lane", without)
    yield invalid(
        BUNDLE, "control.emitter", "event.emitted_by", bundle(event=control("stop", emitter="RK-03"))
    )
    silent = bundle(event=changed(control("stop"), signal=ABSENT))
    yield invalid(BUNDLE, "shape.required", "event.signal", silent)
    yield invalid(
        BUNDLE,
        "plan.watermark_order",
        "resolved_turn_plan.flow_control.watermarks.DataLane",
        changed(base, resolved_turn_plan__flow_control__watermarks__DataLane={"high": 1, "low": 1}),
    )
