"""The words of a call come back into its transcripts as far as the tenant's policy allows, and no further."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rspp.contracts.errors import EvidenceError
from rspp.evidence.words import permit_sound, records_for
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
    with pytest.raises(EvidenceError, match="requested_fidelity_not_authorized"):
        texts(recording)
    with pytest.raises(EvidenceError, match="role_not_authorized"):
        texts(recording, role="guest")


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
