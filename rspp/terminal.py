"""How every command of RSPP speaks to its user: one clear message, a remedy, an exit status.

Exit statuses: 0 done, 1 what was judged does not hold, 2 bad input or a refusal that the user can cure, 70 a
defect of RSPP, 130 stopped by the keyboard, 141 nobody reads the output any more.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from rspp.contracts.errors import RsppError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cyclopts import App
    from rich.console import Console

EXIT_USAGE = 2
EXIT_DEFECT = 70
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

OUTPUT_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when standard output cannot be written any more."""
ESCAPES = "rspp-escapes"
"""Name of the way in which texts that a stream cannot encode are written: as JSON writes them."""


class Style:
    """Sets off texts for people; leaves them as they are where colours are not wanted.

    Args:
        shown: whether colours are wanted.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown

    def bad(self, text: object) -> str:
        """Return ``text`` in red."""
        return self._within("1;31", text)

    def good(self, text: object) -> str:
        """Return ``text`` in green."""
        return self._within("32", text)

    def strong(self, text: object) -> str:
        """Return ``text`` in bold."""
        return self._within("1", text)

    def faint(self, text: object) -> str:
        """Return ``text`` dimmed."""
        return self._within("2", text)

    def _within(self, code: str, text: object) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._shown else str(text)


def coloured(stream: TextIO) -> bool:
    """Tell whether ``stream`` takes colours: a terminal, and the user has not set NO_COLOR."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def style_of(stream: TextIO) -> Style:
    """Return the style of texts on ``stream``."""
    return Style(shown=coloured(stream))


def print_json(document: object) -> None:
    """Print one JSON object on standard output."""
    import json

    print(json.dumps(document, indent=2, ensure_ascii=False))


def result_console() -> Console:
    """Return a console for results: no styles where colours are not wanted, and no markup in texts."""
    from rich.console import Console

    return Console(
        file=sys.stdout,
        color_system="auto" if coloured(sys.stdout) else None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def show_error(message: str, hint: str = "") -> None:
    """Write ``error: message`` and, if there is one, ``hint: …`` to standard error."""
    style = style_of(sys.stderr)
    sys.stderr.write(f"{style.bad('error:')} {message.strip()}\n")
    if hint:
        sys.stderr.write(f"{style.strong('hint:')} {hint.strip()}\n")
    sys.stderr.flush()


def run_command(main: Callable[[], int | None] | App) -> int:
    """Run ``main`` and present whatever goes wrong.

    Args:
        main: the command; returns its exit status, or none for 0. A cyclopts app goes through ``run_app``
            with the arguments of the process.

    Returns:
        The exit status for ``sys.exit``.
    """
    if type(main).__module__.partition(".")[0] == "cyclopts":
        return run_app(cast("App", main))
    _prepare_streams()
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _output_gone()
    except SystemExit as stop:
        # Rich leaves so when its console finds the pipe closed.
        return _output_gone() if isinstance(stop.__context__, BrokenPipeError) else _status_of(stop)
    except BaseException as error:
        # The one place where every failure, whatever it is, becomes a message.
        return _present(error)
    return int(status or 0)


def run_app(app: App, arguments: Sequence[str] | None = None) -> int:
    """Parse ``arguments`` with a cyclopts app, run its command and present whatever goes wrong.

    Args:
        app: the command line; a command's integer result is the exit status.
        arguments: without the program's name; taken from ``sys.argv`` when absent. Without a command, or
            with nothing but the name of a group of commands, the help is shown and it is a usage error.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)

    def main() -> int | None:
        if _names_no_command(app, given):
            app.help_print(given)
            return EXIT_USAGE
        result = app(given, exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) and not isinstance(result, bool) else 0

    return run_command(main)


def answer_version(command: str, arguments: Sequence[str] | None = None) -> bool:
    """Print ``command version`` and return true when the only argument asks for it.

    Call it before the heavy imports, so that the answer comes within 0.3 s.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given not in (["--version"], ["-V"]):
        return False
    status = run_command(lambda: print(f"{command} {version()}"))
    if status:
        sys.exit(status)
    return True


def version() -> str:
    """Return the version of the installed package."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("rspp")
    except PackageNotFoundError:
        from rspp._kernel import VERSION

        return VERSION


def escaped(error: UnicodeError) -> tuple[str, int]:
    """Write what a stream cannot encode as JSON does, so that ``--json`` stays JSON in any locale."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    units = (int.from_bytes(text[at : at + 2]) for at in range(0, len(text), 2))
    return "".join(f"\\u{unit:04x}" for unit in units), error.end


codecs.register_error(ESCAPES, escaped)


def _prepare_streams() -> None:
    """Make both outputs ones that can be written: some are closed, and some take no more than ASCII."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - lives as long as the process
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - lives as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=ESCAPES)


def _names_no_command(app: App, given: Sequence[str]) -> bool:
    """Whether the arguments end at a program or a group that does nothing by itself."""
    for name in given:
        if name.startswith("-") or name not in app:
            return False
        app = app[name]
    return app.default_command is None


def _output_gone() -> int:
    """Nobody reads standard output; without this the interpreter complains once more when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_BROKEN_PIPE


def _status_of(stop: SystemExit) -> int:
    if stop.code is None or isinstance(stop.code, int):
        return int(stop.code or 0)
    show_error(str(stop.code))
    return EXIT_USAGE


def _present(error: BaseException) -> int:
    error = _innermost(error)
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    if isinstance(error, RsppError):
        show_error(error.message, error.hint)
        return error.exit_status
    if isinstance(error, ModuleNotFoundError) and error.name == "rspp._kernel":
        show_error("the kernel of RSPP is not built", "run `make setup` in the checkout")
        return EXIT_USAGE
    if isinstance(error, OSError) and error.errno in OUTPUT_FULL and error.filename is None:
        _output_gone()
        show_error(f"the output cannot be written: {error.strerror}", "make room, or write it elsewhere")
        return EXIT_USAGE
    if type(error).__module__.partition(".")[0] == "cyclopts":
        show_error(" ".join(str(error).split()), "try --help")
        return EXIT_USAGE
    if os.environ.get("RSPP_DEBUG"):
        import traceback

        traceback.print_exception(error)
    text = " ".join(str(error).split())[:500]
    show_error(
        f"internal error: {type(error).__name__}" + (f": {text}" if text else ""),
        "this is a defect of RSPP; run again with RSPP_DEBUG=1 for its traceback and report it",
    )
    return EXIT_DEFECT


def _innermost(error: BaseException) -> BaseException:
    """Return what a task group wraps; an error made for users goes before others."""
    while isinstance(error, BaseExceptionGroup):
        told = error.subgroup(RsppError)
        error = (told or error).exceptions[0]
    return error
