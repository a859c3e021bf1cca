"""``rspp-local-runner`` as its user meets it: files in, files out, one message when something is wrong."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile

from rspp.cli.main import run as run_cli
from rspp.contracts.media import Pcm
from rspp.contracts.validation import check_stream
from rspp.evidence.reader import open_recording
from rspp.runtime import local_commands
from rspp.terminal import run_app
from rspp.transports.wav import WavCaller
from tests.controlplane.snapshots import Change, put

EXAMPLE = Path("rspp/pipeline/examples/front-desk.yaml").resolve()


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from rspp.runtime.local_runner import main; main()"]
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=50, check=False
    )


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("question")
    spoken = folder / "spoken.wav"
    command = [sys.executable, "-m", "rspp.providers.espeak_process"]
    subprocess.run([*command, "--text", "what is your address", "--wav", str(spoken)], check=True)
    samples, rate = soundfile.read(spoken, dtype="int16")
    path = folder / "question.wav"
    soundfile.write(path, np.concatenate((np.zeros(5 * rate, dtype=np.int16), samples)), rate)
    return path


@pytest.mark.conformance("M-02")
def test_a_question_in_a_file_is_answered_into_a_file_and_every_run_is_the_same(
    question: Path, tmp_path: Path
) -> None:
    results = [
        run("--in", question, "--out", tmp_path / name, "--pipeline", EXAMPLE, cwd=tmp_path)
        for name in ("a.wav", "b.wav")
    ]
    assert [result.returncode for result in results] == [0, 0], results[0].stderr
    assert results[0].stdout.splitlines() == [
        "agent   Good evening, this is the Harbour House. How can I help you?",
        "caller  what is your address",
        "agent   You find us at twelve Harbour Street, right beside the old lighthouse.",
    ]
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav"]


@pytest.mark.parametrize(
    ("source", "target", "complaint"),
    [
        ("missing.wav", "out.wav", "missing.wav: no such file"),
        ("text.wav", "out.wav", "text.wav: not a readable audio file"),
        ("empty.wav", "out.wav", "empty.wav: holds no audio"),
        ("question.wav", "nowhere/out.wav", "nowhere/out.wav: cannot be written"),
        ("question.wav", "folder", "folder: is a folder"),
        ("question.wav", "./question.wav", "--out question.wav is the caller's file, which it would replace"),
    ],
)
def test_bad_files_get_one_message_and_leave_nothing(
    source: str, target: str, complaint: str, question: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.wav").write_text("hello")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, dtype=np.int16), 16_000)
    (tmp_path / "question.wav").write_bytes(question.read_bytes())
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    files = ("--in", source, "--out", target, "--pipeline", EXAMPLE)
    result = run(*files, "--evidence", "kept", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0] == f"error: {complaint}"
    assert lines[1].startswith("hint: ")
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_that_is_heard_again_is_another_call(question: Path, tmp_path: Path) -> None:
    files = ("--in", question, "--out", "out.wav", "--pipeline", EXAMPLE)
    for _ in range(2):
        assert run(*files, "--evidence", "kept", cwd=tmp_path).returncode == 0
    kept = tmp_path / "kept" / "default"
    assert sorted(path.name for path in kept.glob("file-*")) == ["file-question", "file-question-2"]
    for session in kept.glob("file-*"):
        assert check_stream(map(msgspec.json.encode, open_recording(session).records())).total_faults == 0


# ------------------------------------------------------------------ under a control plane


Snapshot = Callable[..., Path]


@pytest.fixture
def snapshot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Snapshot:
    """Writes what lets every turn of the example open, changed."""
    assert run_cli(["snapshot-template", str(EXAMPLE)]) == 0
    template: dict[str, Any] = json.loads(capsys.readouterr().out)

    def write(*changes: Change) -> Path:
        for change in changes:
            change(template)
        path = tmp_path / "snapshot.json"
        path.write_text(json.dumps(template))
        return path

    return write


def held(question: Path, folder: Path, *more: str | Path) -> int:
    """Hold a call in this process."""
    files = ("--in", question, "--out", folder / "out.wav", "--pipeline", EXAMPLE)
    return run_app(local_commands.app, [str(argument) for argument in (*files, *more)])


@pytest.mark.parametrize(
    ("change", "answered"),
    [
        (put("colour", "blue"), True),
        (put("tenant_id", "acme"), True),
        (put("tenant_id", "somebody"), False),
        (put("admission/default/outcome_kind", "reject"), False),
        (put("lease/default/authority_authorized", False), False),
    ],
)
def test_a_control_plane_says_whether_a_file_is_answered(
    change: Change,
    answered: bool,  # noqa: FBT001
    question: Path,
    snapshot: Snapshot,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ("--control-plane", snapshot(change), "--tenant", "acme", "--evidence", tmp_path / "kept")
    assert held(question, tmp_path, *given) == 0
    assert ("agent   You find us at twelve Harbour Street" in capsys.readouterr().out) is answered
    recording = open_recording(tmp_path / "kept" / "acme" / "file-question")
    told = [record for record in recording.records() if record.get("name") == "turn_start"]
    assert told[0]["version"] == 1
    assert check_stream(map(msgspec.json.encode, recording.records())).total_faults == 0


def test_a_control_plane_may_be_named_in_the_environment(
    question: Path,
    snapshot: Snapshot,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = snapshot(put("admission/default/outcome_kind", "reject"))
    monkeypatch.setenv("RSPP_CP_DISTRIBUTION_PATH", str(path))
    assert held(question, tmp_path) == 0
    assert "Harbour Street" not in capsys.readouterr().out


@pytest.mark.parametrize("unusable", [put("stale", True), put("snapshot_version", 0), None])
def test_without_a_usable_snapshot_no_call_is_held_and_nothing_is_left(
    unusable: Change | None,
    question: Path,
    snapshot: Snapshot,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = tmp_path / "none.json" if unusable is None else snapshot(unusable)
    before = sorted(tmp_path.iterdir())
    assert held(question, tmp_path, "--control-plane", named, "--evidence", tmp_path / "kept") == 2
    said = capsys.readouterr()
    assert "caller " not in said.out
    assert "\nhint: " in said.err
    assert sorted(tmp_path.iterdir()) == before


# ------------------------------------------------------------------ cut off


def cut_off_at(frame: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send this process a signal as the caller's file gives a frame."""
    speak, spoken = WavCaller.speak, 0

    def cut(caller: WavCaller) -> Pcm | None:
        nonlocal spoken
        spoken += 1
        if spoken == frame:
            signal.raise_signal(number)
        return speak(caller)

    monkeypatch.setattr(WavCaller, "speak", cut)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_call_that_is_cut_off_says_what_is_recorded_of_it(
    number: int,
    status: int,
    question: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handled = signal.getsignal(signal.SIGTERM)
    cut_off_at(200, number, monkeypatch)
    kept = tmp_path / "kept"
    assert held(question, tmp_path, "--evidence", kept) == status
    session = kept / "default" / "file-question"
    assert f"recorded {session}, as far as the call went" in capsys.readouterr().err
    assert check_stream(map(msgspec.json.encode, open_recording(session).records())).total_faults == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    assert signal.getsignal(signal.SIGTERM) is handled


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_call_that_is_cut_off_before_it_begins_leaves_nothing(
    number: int,
    question: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cut(*_: object) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr(WavCaller, "__init__", cut)
    (tmp_path / "theirs").mkdir()
    new = ("--evidence", tmp_path / "kept", "--timeline", tmp_path / "call.jsonl")
    assert held(question, tmp_path, *new) == 128 + number
    assert held(question, tmp_path, "--evidence", tmp_path / "theirs") == 128 + number
    assert [path.name for path in tmp_path.rglob("*")] == ["theirs"]
    assert "recorded" not in capsys.readouterr().err
