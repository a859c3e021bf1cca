"""Payloads on disk: what is kept can be read, what is cut or changed is named, and nothing lies in clear."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

import pytest

from rspp.contracts.errors import ConfigurationError, EvidenceError
from rspp.evidence import artifact_file, payloads
from rspp.evidence.keys import FILE, VARIABLE
from rspp.evidence.payloads import PayloadStore
from rspp.evidence.redaction import known_class
from rspp.evidence.tokens import open_token

NOW = 1_700_000_000_000
WORDS = b"my name is Ada Lovelace"


def store_at(root: Path, tenant: str = "acme", environment: dict[str, str] | None = None) -> PayloadStore:
    return PayloadStore(root, tenant, environment=environment or {}, wall_ms=lambda: NOW)


def every_byte(root: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


def test_what_is_kept_is_read_back_in_order_and_lies_nowhere_in_clear(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    assert store.append("call-1", 2, "text_raw", 5, WORDS, {"party": "caller"}, action="allow")
    assert store.append("call-1", 2, "text_raw", 9, b"a table for two", {"party": "caller"}, action="allow")
    assert store.append("call-1", 1, "audio_raw", 1, b"\x07\x08" * 400, {"rate": 16000}, action="allow")
    store.close()
    reading = store_at(tmp_path).read("call-1")
    assert reading.damage == []
    assert [(one.turn, one.payload_class, one.at_us) for one in reading.entries] == [
        (1, "audio_raw", 1),
        (2, "text_raw", 5),
        (2, "text_raw", 9),
    ]
    assert reading.entries[1].data == WORDS
    assert reading.entries[1].details == {"party": "caller"}
    assert reading.entries[0].data == b"\x07\x08" * 400
    kept = every_byte(tmp_path)
    assert not any(part in kept for part in (WORDS, b"Lovelace", b"table", b"party", b"\x07\x08\x07\x08"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_dropped_payloads_leave_no_file_at_all(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    assert not store.append("call-1", 1, "PHI", 1, b"diagnosis", action="drop")
    assert not store.append("call-1", 1, "PHI", 1, b"diagnosis")
    store.close()
    assert list(tmp_path.rglob("*")) == []


def test_redaction_comes_before_encryption(tmp_path: Path) -> None:
    store = store_at(tmp_path, environment={"OPENAI_API_KEY": "sk-1234567890"})
    store.append("call-1", 1, "text_raw", 1, b"Ada 12", action="mask")
    store.append("call-1", 1, "PII", 2, b"Ada", action="hash")
    store.append("call-1", 1, "metadata", 3, b"key sk-1234567890", {"url": "sk-1234567890"}, action="allow")
    store.append("call-1", 1, "PHI", 4, b"flu", action="tokenize")
    store.close()
    kept = {one.payload_class: one for one in store_at(tmp_path).read("call-1").entries}
    assert kept["text_raw"].data.decode() == "••• 00"
    assert len(kept["PII"].data) == 64
    assert kept["metadata"].data == b"key [secret]"
    assert kept["metadata"].details == {"url": "[secret]"}
    assert kept["PHI"].data.startswith(b"tok1:call-1:t000001.PHI:")
    reader = store_at(tmp_path)
    (artifact,) = reader.artifacts("call-1", classes=[known_class("PHI")])
    assert open_token(reader.data_key(artifact), kept["PHI"].data) == b"flu"


def test_a_pipelines_own_key_variable_is_never_kept_whatever_its_name(tmp_path: Path) -> None:
    environment = {"MODEL_ACCESS": "abcdefgh12"}
    store = PayloadStore(tmp_path, "acme", environment=environment, secret_names=["MODEL_ACCESS"])
    store.append("call-1", 1, "text_raw", 1, b"it is abcdefgh12", action="allow")
    store.close()
    assert store.read("call-1").entries[0].data == b"it is [secret]"


def test_a_successor_writes_files_of_its_own(tmp_path: Path) -> None:
    first, second = store_at(tmp_path), store_at(tmp_path)
    first.append("call-1", 1, "text_raw", 1, b"one", action="allow")
    second.append("call-1", 1, "text_raw", 2, b"two", action="allow")
    first.append("call-1", 1, "text_raw", 3, b"three", action="allow")
    first.close()
    second.close()
    reader = store_at(tmp_path)
    assert [one.path.name for one in reader.artifacts("call-1")] == [
        "t000001.text_raw.payload",
        "t000001.text_raw.2.payload",
    ]
    assert [one.data for one in reader.read("call-1").entries] == [b"one", b"three", b"two"]
    keys = [reader.data_key(one) for one in reader.artifacts("call-1")]
    assert keys[0] != keys[1]


def test_a_file_cut_at_any_byte_gives_whole_payloads_and_names_the_cut(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    written = [f"sentence {number}".encode() for number in range(3)]
    for number, text in enumerate(written):
        store.append("call-1", 1, "text_raw", number, text, action="allow")
    store.close()
    (path,) = tmp_path.rglob("*.payload")
    whole = path.read_bytes()
    reader = store_at(tmp_path)
    clean = 0
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        reading = reader.read("call-1")
        assert [one.data for one in reading.entries] == written[: len(reading.entries)]
        assert len(reading.damage) <= 1
        if reading.damage:
            assert reading.damage[0].code == ("not_an_artifact" if cut < 20 else "torn")
        else:
            clean += 1
    assert clean == 3  # between two entries a cut leaves nothing to see


def test_every_changed_byte_is_found_and_the_other_payloads_stay_readable(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    for number in range(2):
        store.append("call-1", 1, "text_raw", number, f"sentence {number}".encode(), action="allow")
    store.close()
    (path,) = tmp_path.rglob("*.payload")
    whole = path.read_bytes()
    reader = store_at(tmp_path)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        reading = reader.read("call-1")
        assert reading.damage, place
        assert len(reading.entries) < 2
        assert all(one.data == f"sentence {one.at_us}".encode() for one in reading.entries)


def test_payloads_cannot_be_moved_to_another_session_or_swapped(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    for session in ("call-1", "call-2"):
        store.append(session, 1, "text_raw", 1, session.encode(), action="allow")
    store.close()
    for kind, name in (("payloads", "t000001.text_raw.payload"), ("keys", "t000001.text_raw.key")):
        here, there = (tmp_path / "acme" / session / kind / name for session in ("call-1", "call-2"))
        there.write_bytes(here.read_bytes())
        if kind == "payloads":
            (damage,) = store_at(tmp_path).read("call-2").damage
            assert damage.code == "not_authentic"
    with pytest.raises(EvidenceError, match="of another artifact"):
        store_at(tmp_path).read("call-2")


def test_tenants_do_not_share_keys_even_under_one_variable(tmp_path: Path) -> None:
    environment = {VARIABLE: secrets.token_hex(32)}
    store_at(tmp_path, "acme", environment).append("call-1", 1, "PII", 1, b"Ada", action="hash")
    one = store_at(tmp_path, "acme", environment)
    other = store_at(tmp_path, "other", environment)
    one.append("call-2", 1, "PII", 1, b"Ada", action="hash")
    other.append("call-2", 1, "PII", 1, b"Ada", action="hash")
    one.close()
    other.close()
    assert not list(tmp_path.rglob(FILE))
    (here,), (there,) = (store.read("call-2").entries for store in (one, other))
    assert here.data != there.data
    with pytest.raises(EvidenceError, match="made under another key") as caught:
        store_at(tmp_path, "acme", {VARIABLE: secrets.token_hex(32)}).read("call-2")
    assert VARIABLE in caught.value.hint


def test_a_key_that_is_missing_open_to_others_or_no_key_is_refused_by_name(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    store.append("call-1", 1, "text_raw", 1, WORDS, action="allow")
    store.close()
    key = tmp_path / "acme" / FILE
    key.chmod(0o640)
    with pytest.raises(ConfigurationError, match="may be read by others"):
        store_at(tmp_path).read("call-1")
    key.unlink()
    with pytest.raises(EvidenceError, match="there is no key"):
        store_at(tmp_path).read("call-1")
    with pytest.raises(ConfigurationError, match="not 64 hex digits") as caught:
        store_at(tmp_path, environment={VARIABLE: "secretvalue"}).read("call-1")
    assert "secretvalue" not in caught.value.message


def test_a_payload_or_a_session_beyond_its_bound_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(tmp_path)
    with pytest.raises(EvidenceError, match="longer than"):
        store.append("call-1", 1, "audio_raw", 1, bytes(artifact_file.MAX_ENTRY_BYTES + 1), action="allow")
    monkeypatch.setattr(payloads, "MAX_SESSION_BYTES", 1000)
    store.append("call-1", 1, "audio_raw", 1, bytes(600), action="allow")
    with pytest.raises(EvidenceError, match="its payloads reached 1000 bytes"):
        store.append("call-1", 1, "audio_raw", 2, bytes(600), action="allow")
    store.append("call-2", 1, "audio_raw", 2, bytes(600), action="allow")
    store.close()


def test_open_files_are_bounded_and_long_ones_go_on_in_another_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payloads, "MAX_OPEN", 2)
    monkeypatch.setattr(payloads, "MAX_FILE_BYTES", 300)
    store = store_at(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(6):
        store.append(f"call-{number % 3}", 1, "text_raw", number, b"x" * 200, action="allow")
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 2
    store.append("call-2", 1, "text_raw", 7, b"x" * 200, action="allow")
    store.close()
    assert len(store.read("call-2").entries) == 3
    assert len(store.artifacts("call-2")) >= 2


def test_a_full_disk_is_said_and_once_it_has_room_the_file_goes_on_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(tmp_path)
    store.append("call-1", 1, "text_raw", 1, b"before", action="allow")
    write, room = os.write, 30

    def little(file: int, content: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(file, bytes(content[:room]))
        room -= done
        return done

    monkeypatch.setattr(os, "write", little)
    with pytest.raises(EvidenceError, match="No space left"):
        store.flush()
    monkeypatch.setattr(os, "write", write)
    store.append("call-1", 1, "text_raw", 2, b"after", action="allow")
    store.flush(sync=True)
    store.end("call-1")
    reading = store.read("call-1")
    assert reading.damage == []
    assert [one.data for one in reading.entries] == [b"before", b"after"]


def test_the_head_of_a_file_says_when_it_was_begun(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    store.append("call-1", 3, "PII", 1, b"Ada", action="hash")
    store.close()
    (artifact,) = store.artifacts("call-1")
    assert (artifact.turn, artifact.recorded_ms, artifact.state) == (3, NOW, "active")
    assert store.artifacts("call-1", turn=2) == []
    artifact.path.with_name("notes.txt").write_text("x")
    assert len(store.artifacts("call-1")) == 1
