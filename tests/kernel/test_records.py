"""Records as bytes: read back exactly as the kernel would have worded them, and enough to run it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rspp import _kernel
from rspp._kernel import ProviderPolicy, RecordDecoder, SessionKernel
from tests.kernel.fake_shell import FakeRecogniser, FakeShell, make_plan, make_policy, names
from tests.kernel.test_evidence import whole_call

if TYPE_CHECKING:
    from collections.abc import Sequence

START_US = 10_000_000
WALL_MS = 1_700_000_000_000


GOLDEN = Path(__file__).with_name("golden")


def decoder() -> RecordDecoder:
    return RecordDecoder(
        session_id="call/1", pipeline_version="shop@v1", created_us=START_US, created_wall_ms=WALL_MS
    )


def kernel(behaviours: Sequence[int] | None = None) -> SessionKernel:
    made = SessionKernel(
        session_id="call/1",
        policy=make_policy(),
        plan=make_plan(),
        now_us=START_US,
        wall_clock_ms=WALL_MS,
        providers=ProviderPolicy(candidates=[("llm", "first"), ("llm", 'the "other"')]),
        behaviours=behaviours,
    )
    made.lease(START_US, 1, START_US + 4_000_000)
    return made


def records(made: SessionKernel) -> list[dict[str, Any]]:
    return [json.loads(line) for line in decoder().decode(made.drain_records(10_000))]


def test_a_block_says_what_the_lines_say() -> None:
    lines = whole_call().kernel.drain_evidence(100_000)
    block = whole_call().kernel.drain_records(100_000)
    assert decoder().decode(block) == lines
    assert len(lines) > 300
    assert len(block) < 8 * len(lines)


def test_blocks_are_read_each_by_itself() -> None:
    whole = whole_call().kernel
    lines = whole_call().kernel.drain_evidence(100_000)
    read = []
    while block := whole.drain_records(7):
        read.append(decoder().decode(block))
    assert [line for part in read for line in part] == lines
    assert {len(part) for part in read[:-1]} == {7}
    assert whole.drain_records(7) == b""


def test_a_block_of_the_first_format_is_read_for_ever() -> None:
    block = (GOLDEN / "records-1.block").read_bytes()
    assert decoder().decode(block) == (GOLDEN / "records-1.jsonl").read_bytes().splitlines()


def test_a_loss_is_in_the_block_where_it_happened() -> None:
    shells = FakeShell(capacity=256), FakeShell(capacity=256)
    for shell in shells:
        for number in range(200):
            shell.kernel.cancel(shell.now_us + number, "stop")
    lines = shells[0].kernel.drain_evidence(1_000)
    assert decoder().decode(shells[1].kernel.drain_records(1_000)) == lines
    assert json.loads(lines[-1])["kind"] == "gap"


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (b"\x02", "byte 0: the format is not known"),
        (b"\x01\x7f", "byte 1: the kind of entry is not known"),
        (b"\x01\x12", "byte 2: the block ends within an entry"),
    ],
)
def test_a_block_that_cannot_be_read_names_the_byte(block: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decoder().decode(block)


def test_each_frame_is_an_input_before_what_follows_from_it() -> None:
    made = kernel()
    made.text_message(START_US, 1)
    records(made)
    made.frame(START_US + 1_000, 1, 1, 0, 480)
    made.frame(START_US + 21_000, 1, 1, 1, 480)
    made.frame(START_US + 41_000, 1, 9, 2, 480)
    made.frame(START_US + 4_000_000, 1, 1, 3, 480)
    told = records(made)
    frames = [record for record in told if record.get("name") == "frame"]
    assert frames == [
        {
            "kind": "input",
            "at_us": START_US + after_us,
            "wall_ms": WALL_MS + after_us // 1_000,
            "name": "frame",
            "turn": 1,
            "epoch": epoch,
            "sequence": sequence,
            "samples": 480,
            "verdict": verdict,
        }
        for after_us, epoch, sequence, verdict in [
            (1_000, 1, 0, "pass"),
            (21_000, 1, 1, "pass"),
            (41_000, 9, 2, "stale_epoch"),
            (4_000_000, 1, 3, "lease_expired"),
        ]
    ]
    places = [told.index(frame) for frame in frames]
    assert [told[place + 1]["kind"] for place in places] == ["marker", "input", "decision", "marker"]
    assert names(told[places[0] :])[:2] == ["first_output", "output_accepted"]


def test_each_call_is_an_input_before_what_follows_from_it() -> None:
    made = kernel()
    made.text_message(START_US, 1)
    records(made)
    attempt = made.invoke(START_US, 1, "llm")
    assert not isinstance(attempt, str)
    for word in range(5):
        made.output_handed_on(START_US + word, attempt.invocation)
    made.attempt_finished(
        START_US + 9, attempt.invocation, "overload", reason="provider_overload", backoff_ms=7, idle_us=3
    )
    made.ingress(START_US + 10, 1)
    made.ingress(START_US + 11, 0)
    made.ingress(START_US + 12, None)
    made.provider_outcome(START_US + 4_000_000, 1, "tts", "success", 5)
    told = records(made)
    shared = ("kind", "at_us", "wall_ms")
    inputs = [
        {key: value for key, value in record.items() if key not in shared}
        for record in told
        if record["kind"] == "input"
    ]
    number = attempt.invocation
    assert inputs == [
        {"name": "invoke", "turn": 1, "modality": "llm"},
        {"name": "output_handed_on", "turn": 1, "invocation": number},
        {
            "name": "attempt_finished",
            "turn": 1,
            "invocation": number,
            "outcome": "overload",
            "reason": "provider_overload",
            "retryable": False,
            "opens_circuit": True,
            "backoff_ms": 7,
            "idle_us": 3,
        },
        {"name": "ingress", "turn": 1, "carrier_epoch": 0},
        {"name": "ingress", "turn": 1, "carrier_epoch": None},
        {"name": "deadline_passed", "turn": 1},
    ]
    assert told[0]["name"] == "invoke"
    lapsed = next(place for place, record in enumerate(told) if record.get("name") == "deadline_passed")
    assert told[lapsed + 1]["name"] == "gate_closed"
    assert told[-1]["kind"] == "provider"


def released_ms(behaviours: Sequence[int] | None) -> int:
    """How long after the caller's last word the voice goes on, ms."""
    recogniser = FakeRecogniser(delay_ms=40)
    recogniser.hears(1, backchannel=True)
    shell = FakeShell(recogniser=recogniser, behaviours=behaviours)
    shell.open_text(playing=10_000)
    shell.run(400)
    shell.speak(400)
    silent_us = shell.now_us
    shell.run(600)
    resumed = [at_us for at_us, effect in shell.log if isinstance(effect, _kernel.ResumeOutput)]
    assert len(resumed) == 1
    return (resumed[0] - silent_us) // 1_000


def test_a_kernel_without_early_release_waits_a_listeners_word_out() -> None:
    assert _kernel.BEHAVIOURS == {1: "early_release", 2: "drain_superseded", 3: "rotation_told"}
    assert released_ms(None) == released_ms([1])
    assert released_ms([]) - released_ms([1]) in range(50, 101)


@pytest.mark.parametrize("number", [0, 60, -1, 2**40])
def test_an_unknown_behaviour_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=f"behaviours holds {number}, .*BEHAVIOURS"):
        kernel([1, number])
