"""Whatever is done to a valid document, the three validators agree whether it still is one."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rspp.contracts.agreement import judge
from rspp.contracts.envelope import registry
from rspp.contracts.samples import SAMPLES, Document, control, decision, event, transition

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

WORDS = sorted(
    {"session", "turn", "node", "DataLane", "ControlLane", "TelemetryLane", "metadata", "audio_raw", "v1.1"}
    | {"block", "drop", "atomic_drop", "non_blocking_priority", "none", "sync_id", "L1", "admit", "Closed"}
    | {"RK-03", "RK-16", "RK-24", "CP-05", "cancelled", "authority_epoch_mismatch", "x", "", "v1.0\n", " "}
    | {"pre_turn", "active_turn", "edge_enqueue", "tenant"}
    | set(registry())
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [-1, 0, 1, 2, 64, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 1.0, 1.5, -0.0, 1e300]
    ),
    st.sampled_from(WORDS),
    st.text(max_size=5),
    st.sampled_from(
        [[], {}, ["a"], ["a", "a"], [1], {"start": 2, "end": 1}, {"high": 1, "low": 1}, {"pts_ms": 1}]
    ).map(copy.deepcopy),
)
NAMES = st.one_of(
    st.sampled_from(sorted({name for sample in SAMPLES.values() for name in sample})), st.text(max_size=4)
)


def places(value: Any) -> list[Any]:
    """Every object and list of a document, the document first."""
    found = [value]
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, dict | list):
            found += places(part)
    return found


def mutate(document: Document, draw: st.DataObject) -> Document:
    """Drop, replace, add or exchange something, one to three times."""
    document = copy.deepcopy(document)
    for _ in range(draw.draw(st.integers(1, 3))):
        place = draw.draw(st.sampled_from(places(document)))
        action = draw.draw(st.sampled_from(["drop", "replace", "add"]))
        if isinstance(place, dict):
            if action == "add" or not place:
                place[draw.draw(NAMES)] = draw.draw(VALUES)
                continue
            name = draw.draw(st.sampled_from(sorted(place)))
            if action == "drop":
                del place[name]
            else:
                place[name] = draw.draw(VALUES)
        elif action == "drop" and place:
            place.pop(draw.draw(st.integers(0, len(place) - 1)))
        else:
            place.append(draw.draw(VALUES))
    return document


def agree(kind: str, document: object) -> None:
    verdicts = judge(kind, json.dumps(document).encode())
    assert verdicts.disagreement(single=False) == "", document


@SETTINGS
@given(kind=st.sampled_from(sorted(SAMPLES)), draw=st.data())
def test_a_mutated_document_is_judged_alike(kind: str, draw: st.DataObject) -> None:
    agree(kind, mutate(SAMPLES[kind], draw))


@SETTINGS
@given(
    signal=st.sampled_from(sorted(registry())), within=st.sampled_from(["session", "turn"]), draw=st.data()
)
def test_a_mutated_control_signal_is_judged_alike(signal: str, within: str, draw: st.DataObject) -> None:
    agree("control_signal", mutate(control(signal, within=within), draw))


@SETTINGS
@given(draw=st.data())
def test_small_documents_mutated_are_judged_alike(draw: st.DataObject) -> None:
    agree("decision_outcome", mutate(decision(), draw))
    agree("turn_transition", mutate(transition(), draw))
    agree("event_record", mutate(event(), draw))


JSON = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)


@SETTINGS
@given(kind=st.sampled_from(sorted(SAMPLES)), value=JSON)
def test_anything_else_is_refused_alike(kind: str, value: object) -> None:
    agree(kind, value)


@SETTINGS
@given(kind=st.sampled_from(sorted(SAMPLES)), draw=st.data())
def test_m_18_text_with_a_byte_changed_is_judged_alike(kind: str, draw: st.DataObject) -> None:
    text = bytearray(json.dumps(SAMPLES[kind]).encode())
    for _ in range(draw.draw(st.integers(1, 3))):
        text[draw.draw(st.integers(0, len(text) - 1))] = draw.draw(
            st.sampled_from(b'{}[]",:.-+eE0123456789\\u nulltrue\x00\x7f\xc3\xff')
        )
    verdicts = judge(kind, bytes(text))
    assert verdicts.disagreement(single=False) == "", bytes(text)
