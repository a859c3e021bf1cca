"""``rspp-local-runner`` as its user meets it: files in, files out, one message when something is wrong."""

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from rspp.contracts.validation import check_stream
from rspp.evidence.reader import open_recording

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
