"""What a takeover leaves of a conversation: turns are counted on, and words go on where they were kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from rspp import _kernel
from rspp.contracts.errors import EvidenceError
from rspp.evidence.conversation import earlier_conversation
from rspp.evidence.payloads import PayloadStore
from rspp.evidence.reader import open_recording
from rspp.evidence.writer import EvidenceWriter
from rspp.replay.inputs import kernel_arguments
from rspp.tooling.fault_call import ANSWER, ASK, QUESTION, SPEAKING, FaultCall, TakeoverCall

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rspp.authority.store import Lease
    from rspp.contracts.conversation import Conversation
    from rspp.evidence.writer import SessionRecorder

FULL = {"recording": {"level": "L2", "approval": "a test", "allow": ["text_raw"]}}
MASKED = {"recording": {"level": "L2", "approval": "a test"}}
LEVELS: dict[str, dict[str, Any]] = {"full": FULL, "masked": MASKED, "L0": {}}
FIRST = (
    *ASK,
    {"do": "pause", "ms": 14_000},
    *ASK,
    SPEAKING,
    {"do": "pause", "name": "fault", "ms": 9_000},
    {"do": "hang_up"},
)
SECOND = ({"do": "pause", "ms": 3_500}, *ASK, {"do": "pause", "ms": 2_000}, {"do": "hang_up"})


class Takeover:
    """Two runtimes of one call that record into one folder."""

    def __init__(self, root: Path, settings: dict[str, Any]) -> None:
        self.root = root
        self.first = FaultCall(FIRST, settings)
        self.second = FaultCall(SECOND, settings)
        self.writers: list[EvidenceWriter] = []
        for call in (self.first, self.second):
            writer = EvidenceWriter(root, payloads=PayloadStore(root, "default"))
            self.writers.append(writer)
            call.recorders = self._opening(writer, call)
        self.second.earlier = self._earlier

    def _opening(self, writer: EvidenceWriter, call: FaultCall) -> Callable[[Lease, bool], SessionRecorder]:
        level = call.settings.get("recording", {}).get("level", "L0")
        return lambda lease, resumed: writer.open("call", epoch=lease.epoch, resumed=resumed, level=level)

    def _earlier(self, lease: Lease) -> Callable[[], Conversation]:
        def read() -> Conversation:
            self.writers[0].close()
            return earlier_conversation(self.root, "default", "call", lease.epoch)

        return read

    def hold(self) -> Takeover:
        """Hold both calls, and have everything on disk."""
        TakeoverCall(self.first, self.second).hold()
        for writer in self.writers:
            writer.close()
        return self

    def reattached(self) -> dict[str, Any]:
        """What the second's kernel was told."""
        (found,) = [record for record in self.second.records if record.get("name") == "reattach"]
        return found

    def audited(self) -> list[dict[str, Any]]:
        """Accesses to the recording's words."""
        lines = [
            line for path in (self.root / "audit").glob("*.jsonl") for line in path.read_bytes().splitlines()
        ]
        events: list[dict[str, Any]] = [msgspec.json.decode(line)["event"] for line in lines]
        return events


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Takeover]:
    return {name: Takeover(tmp_path_factory.mktemp(name), level).hold() for name, level in LEVELS.items()}


@pytest.mark.conformance("AE-003")
def test_f8_the_new_holder_knows_what_was_said_and_heard_before(calls: dict[str, Takeover]) -> None:
    call = calls["full"]
    before, after = call.first.session.history, call.second.session.history
    assert [message.role for message in before] == ["user", "assistant", "user", "assistant"]
    assert before[0].text == before[2].text == QUESTION
    assert before[1].text == ANSWER
    assert ANSWER.startswith(before[3].text)
    assert after[: len(before)] == before
    assert after[len(before)].text == "Sorry, I lost you."
    assert (call.reattached()["turns"], call.reattached()["messages"]) == (2, 4)


@pytest.mark.parametrize("level", ["masked", "L0"])
def test_f8_where_words_are_not_kept_the_new_holder_counts_turns_and_has_no_words(
    calls: dict[str, Takeover], level: str
) -> None:
    call = calls[level]
    assert len(call.first.session.history) == 4
    assert call.second.session.history[0].text == "Sorry, I lost you."
    assert (call.reattached()["turns"], call.reattached()["messages"]) == (2, 0)
    assert call.audited() == []


@pytest.mark.parametrize("level", list(LEVELS))
def test_f8_no_turn_of_a_session_has_the_number_of_another(calls: dict[str, Takeover], level: str) -> None:
    call = calls[level]
    turns = [
        record["event"]["turn_id"].rpartition("-")[2]
        for half in (call.first, call.second)
        for record in half.check().records
        if record["kind"] == "signal" and record["event"]["signal"] == "turn_open"
    ]
    assert turns == ["1", "2", "3", "4"]
    told = [text for of_caller, text in call.second.caller.transcripts if not of_caller]
    assert told[0] == "Sorry, I lost you."


def test_reading_the_words_for_a_takeover_is_an_access_on_record(calls: dict[str, Takeover]) -> None:
    (event,) = calls["full"].audited()
    request = event["request"]
    assert (event["kind"], request["principal_id"], request["purpose"], request["requested_scope"]) == (
        "access",
        "runtime",
        "state_reattach",
        "session:call",
    )
    assert QUESTION not in str(event)


@pytest.mark.parametrize("level", list(LEVELS))
def test_or_03_the_stint_after_a_takeover_replays_exactly(calls: dict[str, Takeover], level: str) -> None:
    recording = open_recording(calls[level].root / "default" / "call")
    assert recording.damage == []
    for stint in recording.stints:
        replay = _kernel.Replay(**kernel_arguments(stint.header))
        for block in stint.blocks:
            replay.feed(block)
        replay.advance(1_000_000)
        assert replay.gap is None
        assert replay.compared > 100
        assert list(replay.divergences) == []


def test_words_that_were_deleted_do_not_come_back(tmp_path: Path) -> None:
    call = Takeover(tmp_path, FULL).hold()
    assert len(earlier_conversation(tmp_path, "default", "call", 2).messages) == 4
    for artifact in PayloadStore(tmp_path, "default").artifacts("call", turn=1):
        artifact.key_path.unlink()
    left = earlier_conversation(tmp_path, "default", "call", 2)
    assert left.turns == 2
    assert [message.text for message in left.messages] == [m.text for m in call.first.session.history[2:]]


def test_without_an_audit_log_no_words_are_read(calls: dict[str, Takeover], tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    environment = {"RSPP_REPLAY_AUDIT_JSONL_FALLBACK_ROOT": str(blocked)}
    with pytest.raises(EvidenceError):
        earlier_conversation(calls["full"].root, "default", "call", 2, environment=environment)


def test_f8_a_conversation_that_cannot_be_read_stops_no_takeover() -> None:
    first, second = FaultCall(FIRST), FaultCall(SECOND)

    def broken() -> Conversation:
        raise EvidenceError("the disk is gone", hint="none")

    second.earlier = lambda lease: broken
    TakeoverCall(first, second).hold()
    (given,) = [record for record in second.check().records if record.get("name") == "reattach"]
    assert (given["turns"], given["messages"]) == (0, 0)
    assert second.session.history[0].text == "Sorry, I lost you."
