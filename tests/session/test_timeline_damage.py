"""Timelines that went wrong: the reader yields whole records or names the line, whatever the bytes are."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from rspp import _kernel
from rspp.contracts.errors import EvidenceError
from rspp.evidence.timeline import MAX_LINE_BYTES, read_timeline
from tests.kernel.fake_shell import make_plan, make_policy

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 400
TOKENS = [
    b"\n",
    b"\r",
    b"{",
    b"}",
    b'"',
    b"null",
    b"\xff\xfe",
    b"\x00",
    b'{"kind":"gap","records":1,"torn":true}\n',
]


def kernel(capacity: int) -> _kernel.SessionKernel:
    made = _kernel.SessionKernel(
        session_id="damage",
        policy=make_policy(),
        plan=make_plan(),
        now_us=0,
        wall_clock_ms=1_700_000_000_000,
        evidence_capacity=capacity,
    )
    made.lease(0, 1, 1 << 50)
    return made


def recorded() -> bytes:
    source = kernel(512)
    for place in range(20):
        source.text_message(place * 1000, place)
    return b"".join(line + b"\n" for line in source.drain_evidence(512))


def wounded(chance: random.Random, whole: bytes) -> bytes:
    content = bytearray(whole)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(content) + 1)
        end = min(len(content), start + chance.randrange(40))
        match chance.randrange(4):
            case 0:
                del content[start:end]
            case 1:
                content[start:end] = chance.choice(TOKENS)
            case 2:
                content[start:start] = content[start:end]
            case _:
                del content[start:]
    return bytes(content)


def judged(path: Path) -> list[dict[str, Any]] | EvidenceError:
    try:
        return list(read_timeline(path))
    except EvidenceError as error:
        return error


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_timeline_is_read_or_its_line_is_named(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    whole = recorded()
    path = tmp_path / "timeline.jsonl"
    seen = set()
    for _ in range(ROUNDS):
        content = wounded(chance, whole)
        path.write_bytes(content)
        outcome = judged(path)
        seen.add(type(outcome))
        if isinstance(outcome, EvidenceError):
            assert str(path) in outcome.message
            assert outcome.hint
        else:
            assert len(outcome) <= content.count(b"\n") + 1
            assert all(isinstance(record, dict) for record in outcome)
    assert seen == {list, EvidenceError}


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    path.write_bytes(b"{" * (MAX_LINE_BYTES + 5) + b"\n")
    with pytest.raises(EvidenceError):
        list(read_timeline(path))


def test_what_found_no_room_in_stage_a_is_noted_where_it_is_missing() -> None:
    roomy, tight = kernel(4096), kernel(256)
    for place in range(400):
        roomy.cancel(place, "stop")
        tight.cancel(place, "stop")
    whole = roomy.drain_evidence(4096)
    *stored, last = tight.drain_evidence(4096)
    gap = json.loads(last)
    assert stored == whole[: len(stored)]
    assert (gap["kind"], gap["records"]) == ("gap", len(whole) - len(stored))
    assert gap["at_us"] == json.loads(whole[len(stored)])["at_us"]
    tight.cancel(500, "stop")
    assert [json.loads(line)["kind"] for line in tight.drain_evidence(4096)] == ["input", "marker"]
