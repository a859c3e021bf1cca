"""How the commands speak: results on standard output, one message and a remedy on standard error."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cyclopts import App

from rspp import terminal
from rspp.cli import main as cli
from rspp.contracts.errors import AuthorityError, ConfigurationError, ProviderError
from rspp.pipeline.loader import load_pipeline
from rspp.pipeline.normalise import with_defaults
from rspp.pipeline.schema import schema_text
from rspp.terminal import run_app, run_command

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "rspp" / "pipeline" / "examples" / "front-desk.yaml"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RSPP_DEBUG", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.yaml"
    path.write_text("name: x\nllm: {provider: rule}\nvda: 3\n", encoding="utf-8")
    return path


def raising(error: BaseException) -> int:
    def main() -> int:
        raise error

    return run_command(main)


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# ------------------------------------------------------------------------------------- presentation


def test_an_error_for_users_is_a_message_and_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (ConfigurationError, AuthorityError, ProviderError):
        assert raising(error("port 80 is in use", hint="choose another")) == 2
        assert capsys.readouterr() == ("", "error: port 80 is in use\nhint: choose another\n")
    raising(ConfigurationError("no"))
    assert capsys.readouterr().err == "error: no\n"


def test_a_task_groups_errors_are_told_as_if_there_were_no_group(capsys: pytest.CaptureFixture[str]) -> None:
    group = BaseExceptionGroup("g", [OSError("x"), ExceptionGroup("h", [ConfigurationError("wrong key")])])
    assert raising(group) == 2
    assert capsys.readouterr().err == "error: wrong key\n"
    assert raising(BaseExceptionGroup("g", [KeyboardInterrupt()])) == 130


def test_a_defect_is_one_line_and_its_traceback_comes_on_demand(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert raising(ZeroDivisionError("first\nsecond")) == 70
    said = capsys.readouterr().err
    assert said.startswith("error: internal error: ZeroDivisionError: first second\nhint: ")
    assert "RSPP_DEBUG=1" in said
    assert "Traceback" not in said
    monkeypatch.setenv("RSPP_DEBUG", "1")
    assert raising(ZeroDivisionError()) == 70
    assert "Traceback" in capsys.readouterr().err


def test_statuses() -> None:
    assert run_command(lambda: None) == 0
    assert run_command(lambda: 3) == 3
    assert raising(KeyboardInterrupt()) == 130
    assert raising(SystemExit(4)) == 4
    assert raising(SystemExit()) == 0


def test_a_kernel_that_is_not_built_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(ModuleNotFoundError("No module named 'rspp._kernel'", name="rspp._kernel")) == 2
    assert "make setup" in capsys.readouterr().err


def test_colours_only_on_a_terminal_and_never_against_the_users_wish(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def shown() -> str:
        stream = FakeTerminal()
        monkeypatch.setattr(sys, "stderr", stream)
        terminal.show_error("no", "yes")
        return stream.getvalue()

    assert "\x1b[" in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown() == "error: no\nhint: yes\n"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b[" not in shown()


def test_a_cyclopts_app_is_a_command_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(name="thing")

    @app.default
    def thing(*, count: int) -> int:
        return count

    monkeypatch.setattr(sys, "argv", ["thing", "--count", "5"])
    assert run_command(app) == 5
    assert run_app(app, ["--count", "five"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "five" in said.err
    assert said.err.endswith("hint: try --help\n")
    assert run_app(app, ["--help"]) == 0


# ------------------------------------------------------------------------------------------ rspp-cli


def test_no_command_shows_the_help_and_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 2
    assert "validate-pipeline" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["validate"], "validate"),
        (["validate-pipeline"], "requires an argument"),
        (["validate-pipeline", "a", "b"], "b"),
        (["schema", "--yaml"], "--yaml"),
        (["validate-pipeline", "/nowhere/f.yaml"], "/nowhere/f.yaml: no such pipeline file"),
        (["show-pipeline", "/nowhere/f.yaml"], "/nowhere/f.yaml: no such pipeline file"),
    ],
)
def test_mistakes_exit_with_2_and_say_what_is_wrong(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert cli.run(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert words in said.err
    assert "hint: " in said.err


def test_a_valid_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["validate-pipeline", str(EXAMPLE)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{EXAMPLE}: valid: front-desk@v1: vad by silero, stt by pocketsphinx")
    assert said.err == ""


def test_every_fault_of_a_file_is_listed(capsys: pytest.CaptureFixture[str], broken: Path) -> None:
    assert cli.run(["validate-pipeline", str(broken)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f'error: {broken}:2: llm.provider: unknown provider ("rule")',
        "hint: known providers: rules, openai",
        f"error: {broken}:3: vda: unknown key",
        "hint: did you mean `vad`?",
    ]


def test_results_for_machines(capsys: pytest.CaptureFixture[str], broken: Path, tmp_path: Path) -> None:
    assert cli.run(["validate-pipeline", str(EXAMPLE), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["valid"] is True
    assert report["pipeline_version"] == "front-desk@v1"
    assert report["pipeline"]["interruption"]["confirm_ms"] == 700
    assert report["plan_policy"]["provider_bindings"]["stt"] == "pocketsphinx"
    assert cli.run(["validate-pipeline", str(broken), "--json"]) == 2
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert (report["valid"], said.err) == (False, "")
    assert [(fault["line"], fault["path"]) for fault in report["faults"]] == [(2, "llm.provider"), (3, "vda")]
    assert cli.run(["validate-pipeline", str(tmp_path / "none"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["faults"][0]["hint"]


def test_what_is_shown_is_a_pipeline_file_with_the_same_meaning(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.run(["show-pipeline", str(EXAMPLE)]) == 0
    text = capsys.readouterr().out
    assert "confirm_words: 3" in text
    shown = tmp_path / "shown.yaml"
    shown.write_text(text, encoding="utf-8")
    assert load_pipeline(shown) == with_defaults(load_pipeline(EXAMPLE))
    assert yaml.safe_load(text)["name"] == "front-desk"


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["schema"]) == 0
    assert capsys.readouterr().out == schema_text()


# ------------------------------------------------------------------------------------ real processes


def started(arguments: list[str]) -> subprocess.Popen[str]:
    # Without buffers nothing would be left to be written when the process ends.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "cmd" / "rspp-cli"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**buffered, "PYTHONPATH": str(ROOT)},
    )


def test_the_version_is_answered_before_anything_heavy_is_imported() -> None:
    code = (
        "import sys; from rspp.cli import main\n"
        "assert main.run(['--version']) == 0\n"
        "heavy = {'cyclopts', 'rich', 'msgspec', 'yaml', 'numpy', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("rspp-cli 0.")


@pytest.mark.parametrize("arguments", [["schema"], ["validate-pipeline", str(EXAMPLE)], ["--version"]])
def test_a_reader_that_goes_away_is_no_error(arguments: list[str]) -> None:
    process = started(arguments)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, said = process.communicate(timeout=30)
    assert said == ""
    assert process.returncode == terminal.EXIT_BROKEN_PIPE


@pytest.mark.parametrize(
    ("arguments", "group"),
    [(["timeline"], "timeline"), (["evidence"], "evidence"), (["evidence", "audit"], "audit")],
)
def test_a_group_without_its_command_is_a_mistake_too(
    arguments: list[str], group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    assert f"{group} COMMAND" in capsys.readouterr().out
    assert cli.run([*arguments, "--help"]) == 0


GOLDEN = ROOT / "replay" / "recordings" / "room-001-barge-in"


def ended(arguments: list[str], stdout: int) -> tuple[int, str]:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", "from rspp.cli.main import main; main()", *arguments],
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr.decode()


def test_a_full_disk_behind_the_output_is_told_and_is_no_defect() -> None:
    with Path("/dev/full").open("wb") as full:
        status, said = ended(["schema"], stdout=full.fileno())
    assert status == 2
    assert said == (
        "error: the output cannot be written: No space left on device\n"
        "hint: make room, or write it elsewhere\n"
    )


def test_what_the_terminal_cannot_show_is_escaped_as_json_does(tmp_path: Path) -> None:
    pipeline = tmp_path / "caf\u00e9.yaml"
    pipeline.write_bytes(EXAMPLE.read_bytes())
    with (tmp_path / "out").open("wb") as out:
        assert ended(["validate-spec", str(pipeline), "--json"], stdout=out.fileno()) == (0, "")
    shown = (tmp_path / "out").read_text("ascii")
    assert json.loads(shown)["file"] == str(pipeline)


@pytest.mark.parametrize("command", [["timeline", "show"], ["replay"]])
def test_a_console_without_a_reader_ends_quietly(command: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    status, said = ended([*command, str(GOLDEN)], stdout=writer)
    os.close(writer)
    assert (status, said) == (141, "")


@pytest.mark.parametrize(("closed", "arguments", "status"), [(">&-", "schema", 0), ("2>&-", "nope", 2)])
def test_a_closed_output_is_no_defect(closed: str, arguments: str, status: int) -> None:
    program = "from rspp.cli.main import main; main()"
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {arguments} {closed}', sys.executable, program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")


def test_the_keyboard_stops_a_command_that_still_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> App:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "build_app", interrupted)
    assert cli.run(["schema"]) == 130


def test_tables_have_no_styles_at_all_against_the_users_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    for wish in ("", "1"):
        screen = FakeTerminal()
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setenv("NO_COLOR", wish)
        assert cli.run(["timeline", "show", str(GOLDEN)]) == 0
        shown.append(screen.getvalue())
    assert "\x1b[2m" in shown[0]
    assert "\x1b" not in shown[1]
    assert "\x1b[0mfront-desk\x1b[2m" in shown[0]
