"""Recorded sessions: what a real call writes keeps every rule, and what is broken in it is found."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rspp import _kernel
from rspp.contracts.agreement import judge
from rspp.contracts.errors import ProviderError
from rspp.contracts.fixtures_stream import Recording, opened
from rspp.contracts.ports import Hypothesis
from rspp.contracts.validation import MAX_FAULTS, StreamFault, check_stream
from tests.kernel.fake_shell import FakeShell
from tests.session.fakes import FakeCaller, FakeWorld

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rspp.contracts.ports import Message

QUESTION, STOP, MHM = 8_001, 8_002, 8_003
HEARD = {
    QUESTION: Hypothesis("a question", complete=True),
    STOP: Hypothesis("please stop now", complete=True),
    MHM: Hypothesis("mhm", backchannel=True, complete=True),
}
BURSTS = [(500, 1_300, QUESTION), (4_000, 5_200, STOP), (9_000, 9_800, QUESTION), (12_000, 12_500, MHM)]
EMITTED = {
    "turn_open_proposed",
    "admit",
    "turn_open",
    "commit",
    "abort",
    "close",
    "barge_in",
    "output_accepted",
    "playback_started",
    "playback_completed",
    "playback_cancelled",
    "lease_issued",
    "connected",
    "ended",
    "watermark",
    "flow_xoff",
    "flow_xon",
}

Record = dict[str, Any]


def reply(history: Sequence[Message]) -> str:
    return " ".join(f"w{number}" for number in range(30)) if "question" in history[-1].text else "stopped."


def held(*, failing: bool = False) -> list[Record]:
    """The timeline of a call with a greeting, an interruption and a listener's word."""
    world = FakeWorld(FakeCaller(BURSTS, 22_000), HEARD, reply, {"greeting": "Hello there."})
    if failing:
        world.responder.failure = ProviderError("no answer", reason="provider_timeout")
    world.hold()
    return world.timeline.records


@pytest.fixture(scope="module")
def call() -> list[Record]:
    return held()


def lines(records: Sequence[Record]) -> list[bytes]:
    return [json.dumps(record).encode() for record in records]


def faults(records: Sequence[Record]) -> list[StreamFault]:
    return check_stream(iter(lines(records))).faults


def signals(records: Sequence[Record]) -> list[Record]:
    return [record["event"] for record in records if record["kind"] == "signal"]


def at(records: Sequence[Record], signal: str) -> int:
    """Place of the first such signal."""
    return next(
        index
        for index, record in enumerate(records)
        if record["kind"] == "signal" and record["event"]["signal"] == signal
    )


# ------------------------------------------------------------------------------------- real calls


def test_a_real_call_keeps_every_rule(call: list[Record]) -> None:
    assert faults(call) == []
    assert {event["signal"] for event in signals(call)} == EMITTED


def test_a_call_whose_provider_fails_keeps_every_rule() -> None:
    records = held(failing=True)
    assert faults(records) == []
    assert {event.get("reason") for event in signals(records) if event["signal"] == "abort"} >= {
        "provider_timeout"
    }


def test_every_document_of_a_real_call_passes_all_three_validators(call: list[Record]) -> None:
    kinds = {"signal": ("control_signal", "event"), "decision": ("decision_outcome", "decision")}
    judged = 0
    for record in call:
        if record["kind"] in kinds:
            kind, part = kinds[record["kind"]]
            verdicts = judge(kind, json.dumps(record[part]).encode())
            assert verdicts.kernel is None, record
            assert verdicts.disagreement(single=True) == ""
            judged += 1
    assert judged >= 40


def test_g_20_a_turns_life_is_emitted_and_recorded_as_control_signals(call: list[Record]) -> None:
    lives: dict[str, list[str]] = {}
    for event in signals(call):
        if event["emitted_by"] == "RK-03":
            lives.setdefault(event["turn_id"], []).append(event["signal"])
    assert len(lives) >= 4
    for life in lives.values():
        assert life in (["turn_open", "commit", "close"], ["turn_open", "abort", "close"])


def test_g_19_proposals_are_recorded_with_session_scope(call: list[Record]) -> None:
    proposals = [event for event in signals(call) if event["signal"] == "turn_open_proposed"]
    assert proposals
    assert {event["event_scope"] for event in proposals} == {"session"}


def test_g_21_ids_differ_over_sessions_restarts_and_epochs() -> None:
    seen: list[str] = []
    for session in ("a/b", "a_b", "a%2Fb"):
        for epoch in (1, 2):
            kernel = _kernel.SessionKernel(
                session_id=session,
                policy=_kernel.TurnPolicy(),
                plan=_kernel.PlanTemplate(
                    pipeline_version="p@v1",
                    graph_definition_ref="g",
                    execution_profile="simple",
                    policy_json="{}",
                ),
                now_us=0,
                wall_clock_ms=0,
            )
            kernel.lease(0, epoch, 10**12)
            kernel.start(0, resumed=False)
            kernel.text_message(1, 1)
            records = [json.loads(line) for line in kernel.drain_evidence(1_000)]
            ids = [event["event_id"] for event in signals(records)]
            assert len(ids) > 4
            seen += ids
    assert len(seen) == len(set(seen))


def test_words_from_outside_become_one_reason_and_stay_in_the_input() -> None:
    shell = FakeShell()
    shell.do(shell.kernel.connection(shell.now_us, "stall", "ICE_FAILED"))
    records = [json.loads(line) for line in shell.kernel.drain_evidence(1_000)]
    assert faults(records) == []
    assert signals(records)[-1]["reason"] == "unlisted_reason"
    assert [record["reason"] for record in records if record.get("name") == "connection"] == ["ICE_FAILED"]


def test_nothing_of_an_aborted_turn_is_reported_as_started() -> None:
    shell = FakeShell()
    kernel = shell.kernel
    for reference in (1, 2, 3):
        kernel.text_message(shell.now_us, reference)
    kernel.generation_failed(shell.now_us, 3, "provider_timeout")
    for turn in range(6):
        kernel.playback(shell.now_us, turn, "started", 0)
    records = [json.loads(line) for line in kernel.drain_evidence(1_000)]
    started = [event["turn_id"] for event in signals(records) if event["signal"] == "playback_started"]
    assert started == [f"turn-{kernel.epoch}-4"]
    assert [fault.rule for fault in faults(records)] == ["stream.close"]


# ---------------------------------------------------------------------------------- broken recordings


def test_w_08_a_repeated_record_is_found(call: list[Record]) -> None:
    place = at(call, "turn_open")
    found = faults([*call[: place + 1], call[place], *call[place + 1 :]])
    assert [(fault.line, fault.rule) for fault in found] == [(place + 2, "stream.event_id")]


def test_w_08_two_records_that_changed_places_are_found(call: list[Record]) -> None:
    place = at(call, "output_accepted")
    other = at(call, "playback_started")
    swapped = list(call)
    swapped[place], swapped[other] = swapped[other], swapped[place]
    assert [fault.rule for fault in faults(swapped)] == ["stream.sequence"]


def test_a_lost_record_of_a_turns_life_is_found(call: list[Record]) -> None:
    for signal, rule in (
        ("turn_open", "stream.control_first"),
        ("commit", "stream.close"),
        ("abort", "stream.close"),
        ("close", "stream.close"),
    ):
        place = at(call, signal)
        found = faults([*call[:place], *call[place + 1 :]])
        assert found, signal
        assert found[0].rule == rule, signal


def test_a_lost_transition_is_found(call: list[Record]) -> None:
    place = next(index for index, record in enumerate(call) if record.get("trigger") == "turn_open")
    found = faults([*call[:place], *call[place + 1 :]])
    assert [fault.rule for fault in found] == ["stream.transition"]


def test_a_record_cut_in_the_middle_is_found(call: list[Record]) -> None:
    written = lines(call)
    written[-1] = written[-1][: len(written[-1]) // 2]
    found = check_stream(iter(written)).faults
    assert [(fault.line, fault.rule) for fault in found] == [(len(call), "json.syntax")]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.randoms(use_true_random=False))
def test_no_signal_can_change_its_turn_its_epoch_or_its_number_unseen(place: Any) -> None:
    records = json.loads(json.dumps(opened().data().in_turn("output_accepted", "commit", "close").lines))
    places = [index for index, record in enumerate(records) if record.get("kind") == "signal"]
    index = place.choice(places[1:])
    event = records[index]["event"]
    field, value = place.choice(
        [("runtime_sequence", 0), ("authority_epoch", 99), ("event_id", ""), ("lane", "DataLane"), ("seq", 1)]
    )
    event[field] = value
    last = all("authority_epoch" not in record.get("event", {}) for record in records[index + 1 :])
    assert faults(records) or (field == "authority_epoch" and last)


# ------------------------------------------------------------------------------------- the report


def test_lines_are_counted_and_empty_ones_passed_over() -> None:
    recording = Recording().signal("connected").text()
    report = check_stream(iter([*recording.splitlines(), b"", b"  \n", b'{"kind":"pressure"}', b"["]))
    assert report.lines == 6
    assert report.records == {"header": 1, "pressure": 1, "signal": 1, "unreadable": 1}
    assert [(fault.line, fault.rule) for fault in report.faults] == [(6, "json.syntax")]


def test_a_line_torn_by_a_kill_is_no_fault_once_the_next_writer_says_so() -> None:
    sound = Recording().signal("connected").text().splitlines()
    torn = b'{"kind":"signal","at_us":12,"ev'
    gap = b'{"kind":"gap","records":1,"torn":true}'
    report = check_stream(iter([*sound, torn, gap]))
    assert (report.faults, report.missing) == ([], 1)
    lost = b'{"kind":"gap","records":7}'
    report = check_stream(iter([*sound, torn, lost, torn]))
    assert [(fault.line, fault.rule) for fault in report.faults] == [(3, "json.syntax"), (5, "json.syntax")]
    assert report.missing == 7


def test_faults_are_kept_up_to_a_bound_and_counted_beyond() -> None:
    report = check_stream(b"[]" for _ in range(MAX_FAULTS + 5))
    assert len(report.faults) == MAX_FAULTS
    assert report.total_faults == MAX_FAULTS + 5


def test_plain_documents_and_timelines_are_told_apart_by_their_fields() -> None:
    from rspp.contracts.samples import SAMPLES

    stream = _kernel.StreamValidator()
    for sample in SAMPLES.values():
        broken = json.dumps(sample | {"color": 1}).encode()
        assert (stream.push(broken) or ())[:2] == ("shape.unknown_field", "color")
