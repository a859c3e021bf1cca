"""Writes reports for machines and people in one step each, so that a reader sees the old or the new one."""

from __future__ import annotations

import json
import tempfile
from typing import TYPE_CHECKING, Any

from rspp.contracts.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


def write_report_files(path: Path, document: Mapping[str, Any], markdown: str) -> Path:
    """Write a JSON report and its Markdown twin beside it.

    Args:
        path: the JSON file; its folder is made.
        document: the report.
        markdown: the same for people.

    Returns:
        The Markdown file.

    Raises:
        ConfigurationError: one of them cannot be written.
    """
    twin = path.with_suffix(".md")
    texts = {path: json.dumps(document, indent=2, ensure_ascii=False) + "\n", twin: markdown}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for target, text in texts.items():
            part = target.with_name(target.name + ".part")
            part.write_text(text, "utf-8")
            part.replace(target)
    except OSError as error:
        raise ConfigurationError(
            f"report {str(path)!r} cannot be written: {error.strerror or error}",
            hint="name a file in a folder that can be written",
        ) from error
    return twin


def require_place(path: Path) -> None:
    """Make sure that a file can be written, before the work whose result it takes.

    Args:
        path: the file; its folder is made.

    Raises:
        ConfigurationError: it is a folder, or lies where nothing can be written.
    """
    problem = "Is a directory" if path.is_dir() else ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise ConfigurationError(
            f"{str(path)!r} cannot be written: {problem}", hint="name a file in a folder that can be written"
        )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table; the first column is text, the others are figures."""
    lines = [_line(header), _line(["---", *("---:" for _ in header[1:])])]
    return lines + [_line([_cell(value) for value in row]) for row in rows]


def text_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table for the terminal, the first column left, the others right."""
    cells = [list(map(str, header)), *([str(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
