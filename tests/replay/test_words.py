"""The words of a call come back into its transcripts as far as the tenant's policy allows, and no further."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from rspp.contracts.errors import EvidenceError
from rspp.evidence import answers
from rspp.evidence.conversation import earlier_conversation
from rspp.evidence.payloads import PayloadStore
from rspp.evidence.reader import open_recording
from rspp.evidence.words import permit_sound, records_for
from rspp.evidence.writer import EvidenceWriter
from tests.evidence.recordings import HEADER
from tests.replay.test_audio import FULL, hold

if TYPE_CHECKING:
    from rspp.evidence.reader import Recording


def recorded(root: Path, policy: dict[str, Any] | None) -> Recording:
    _, recording = hold(root, FULL)
    if policy is not None:
        (root / "acme" / "access.json").write_text(json.dumps({"tenant_id": "acme"} | policy), "utf-8")
    return recording


def texts(recording: Recording, **asked: str) -> list[tuple[str, str]]:
    asked = {"principal": "ada", "role": "operator", "purpose": "debug"} | asked
    records = records_for(recording.path, **asked)
    return [(record["party"], record["text"]) for record in records if record["kind"] == "transcript"]


OPEN = {"fidelities": ["L0", "L1", "L2"], "actions": {"text_raw": "allow"}}


def test_a_policy_that_allows_it_shows_the_words_as_heard(tmp_path: Path) -> None:
    found = texts(recorded(tmp_path, OPEN))
    assert ("caller", "tell me all") in found
    assert ("caller", "no stop that") in found
    interrupted = next(text for party, text in found if party == "agent")
    assert "one two three four".startswith(" ".join(interrupted.split()[:4]))
    assert "twelve" not in interrupted
    assert ("agent", "one two three four five six seven eight nine ten eleven twelve") in found


def test_less_is_shown_at_a_lower_fidelity_and_nothing_by_default(tmp_path: Path) -> None:
    recording = recorded(tmp_path, OPEN)
    assert ("caller", "•••• •• •••") in texts(recording, fidelity="L1")
    assert {text for _, text in texts(recording, fidelity="L0")} == {""}
    (tmp_path / "acme" / "access.json").unlink()
    with pytest.raises(EvidenceError, match="requested_fidelity_not_authorized") as denied:
        texts(recording)
    assert denied.value.hint.startswith(f"there is no {tmp_path / 'acme' / 'access.json'}")
    with pytest.raises(EvidenceError, match="role_not_authorized"):
        texts(recording, role="guest")


def test_however_long_the_call_was_none_of_its_records_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = recorded(tmp_path, OPEN)
    whole = texts(recording)
    monkeypatch.setattr(answers, "MAX_RECORDS", 3)
    assert texts(recording) == whole
    asked = records_for(recording.path, principal="ada", role="operator", purpose="debug")
    assert len(list(asked)) == len(list(recording.records()))


def test_every_request_is_in_the_log(tmp_path: Path) -> None:
    recording = recorded(tmp_path, OPEN)
    texts(recording)
    with pytest.raises(EvidenceError):
        texts(recording, purpose="curiosity")
    log = next((tmp_path / "audit").glob("*.jsonl")).read_text("utf-8")
    assert log.count("session:fake") == 2
    assert "tell me" not in log


def test_a_copy_elsewhere_is_not_shown_under_another_tenants_policy_and_leaves_no_log_there(
    tmp_path: Path,
) -> None:
    recording = recorded(tmp_path / "kept", OPEN)
    copy = tmp_path / "mine" / "fake"
    shutil.copytree(recording.path, copy)
    (copy.parent / "access.json").write_text(json.dumps({"tenant_id": "mine"} | OPEN), "utf-8")
    asked = {"principal": "ada", "role": "operator", "purpose": "debug"}
    with pytest.raises(EvidenceError, match="tenant acme in the folder of mine"):
        records_for(copy, **asked)
    with pytest.raises(EvidenceError, match="tenant acme in the folder of mine"):
        permit_sound(copy, **asked)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(EvidenceError, match="holds no segment"):
        permit_sound(tmp_path / "nothing", **asked)
    assert not (tmp_path / "audit").exists()


def test_a_recording_may_be_named_from_within_its_folder_or_by_one_of_its_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = recorded(tmp_path, OPEN)
    whole = texts(recording)
    segment = next(recording.path.glob("*.segment"))
    monkeypatch.chdir(recording.path)
    for place in (Path(), Path(segment.name)):
        records = records_for(place, principal="ada", role="operator", purpose="debug")
        assert [(one["party"], one["text"]) for one in records if one["kind"] == "transcript"] == whole


def test_sound_is_heard_only_where_the_policy_shows_it(tmp_path: Path) -> None:
    recording = recorded(tmp_path, OPEN)
    with pytest.raises(EvidenceError, match="requested_classes_not_authorized"):
        permit_sound(recording.path, principal="ada", role="operator", purpose="debug")
    recorded_again = {**OPEN, "tenant_id": "acme", "actions": {"audio_raw": "allow"}}
    (tmp_path / "acme" / "access.json").write_text(json.dumps(recorded_again), "utf-8")
    permit_sound(recording.path, principal="ada", role="operator", purpose="debug")
    with pytest.raises(EvidenceError, match="role_not_authorized"):
        permit_sound(recording.path, principal="ada", role="guest", purpose="debug")


def two_hosts(root: Path) -> Path:
    """A call that another host took over, whose clock stands far behind that of the first."""
    said = ((9_000_000, "my order please"), (8_000, "two of them"))
    for epoch, (at_us, text) in enumerate(said, start=1):
        transcript = {"kind": "transcript", "turn": 1, "party": "caller", "words": 3, "text": ""}
        with EvidenceWriter(root, "acme", payloads=PayloadStore(root, "acme")) as writer:
            recorder = writer.open("fake", epoch=epoch, resumed=epoch > 1, level="L2")
            recorder.begin(HEADER | {"created_us": at_us - 1_000})
            recorder.write(b"", [msgspec.json.encode(transcript | {"at_us": at_us})])
            recorder.payload("text_raw", 1, at_us, text.encode(), action="allow", party="caller", final=True)
            assert recorder.close()
    (root / "acme" / "access.json").write_text(json.dumps({"tenant_id": "acme"} | OPEN), "utf-8")
    return root / "acme" / "fake"


def test_words_of_a_call_that_was_taken_over_stand_in_the_turns_of_their_own_host(tmp_path: Path) -> None:
    folder = two_hosts(tmp_path)
    assert texts(open_recording(folder)) == [("caller", "my order please"), ("caller", "two of them")]


def test_who_takes_over_is_told_the_words_in_the_order_of_the_hosts(tmp_path: Path) -> None:
    two_hosts(tmp_path)
    (message,) = earlier_conversation(tmp_path, "acme", "fake", 3, environment={}).messages
    assert message.text == "my order please two of them"
    (message,) = earlier_conversation(tmp_path, "acme", "fake", 2, environment={}).messages
    assert message.text == "my order please"
