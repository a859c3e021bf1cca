"""``rspp-cli timeline`` and ``report``: a recorded call for the terminal, for tools and as a page."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import App

from rspp.cli.recorded import Asking, asker_of, open_asked, place_of
from rspp.contracts.errors import ConfigurationError
from rspp.terminal import print_json, result_console

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NOBODY = Asking()
timeline_app = App(name="timeline", help="Show a recorded call, or give it to other tools.")


@timeline_app.command
def show(
    recording: str,
    *,
    asking: Asking = NOBODY,
    turn: int | None = None,
    from_: int = 0,
    to: int | None = None,
    json: bool = False,
) -> int:
    """Show what happened in a call, in order.

    Args:
        recording: a session's folder, one of its files, or the id of a session in the evidence folder.
        asking: whose recording is asked for, and by whom.
        turn: only this turn.
        from_: only from here on, milliseconds from the beginning.
        to: only until here, milliseconds from the beginning.
        json: print one JSON object.
    """
    from rspp.tooling.call_page.source import model_of
    from rspp.tooling.timeline_view import records_between, show_call, shown_document

    if from_ < 0 or (to is not None and to < from_):
        given = f"--from {from_}" if to is None else f"--from {from_} --to {to}"
        raise ConfigurationError(
            f"timeline show: {given} is no stretch of time",
            hint="give milliseconds from the beginning of the call, the earlier one first",
        )
    model = model_of(open_asked(recording, asking))
    if turn is not None and all(view.number != turn for view in model.turns.values()):
        raise ConfigurationError(
            f"timeline show: the call has no turn {turn}",
            hint=f"it has {len(model.turns)} turns; leave --turn out to see them",
        )
    end_us = None if to is None else to * 1000
    if json:
        chosen = list(records_between(model, turn=turn, begin_us=from_ * 1000, end_us=end_us))
        print_json(shown_document(model, chosen))
        return 0
    show_call(result_console(), model, turn=turn, begin_us=from_ * 1000, end_us=end_us)
    return 0


@timeline_app.command
def export(
    recording: str,
    *,
    format: Literal["jsonl", "otlp", "perfetto"] = "jsonl",
    out: Path | None = None,
    asking: Asking = NOBODY,
) -> int:
    """Give a recorded call to other tools.

    Args:
        recording: a session's folder, one of its files, or the id of a session in the evidence folder.
        format: jsonl has every record; otlp is an OpenTelemetry trace as JSON; perfetto opens in
            ui.perfetto.dev.
        out: file to write; standard output when absent.
        asking: whose recording is asked for, and by whom.
    """
    from rspp.tooling.call_page.source import model_of
    from rspp.tooling.timeline_export import otlp_traces, perfetto_trace

    found = open_asked(recording, asking)
    if format == "jsonl":
        _lines_out((_dumped(record) for record in found.records()), out)
        return 0
    model = model_of(found)
    document = otlp_traces(model) if format == "otlp" else perfetto_trace(model)
    _lines_out([_dumped(document)], out)
    return 0


def report(
    recording: str,
    *,
    out: Path = Path("report.html"),
    evidence: Path = Path("evidence"),
    tenant: str = "",
    purpose: str = "",
    principal: str = "",
    role: str = "",
    fidelity: Literal["L0", "L1", "L2"] = "L2",
    check_replay: bool = True,
    json: bool = False,
) -> int:
    """Write a recorded call as one page that needs nothing else.

    Args:
        recording: a session's folder, one of its files, or the id of a session in the evidence folder.
        out: file to write.
        evidence: folder of the recordings, for a session id.
        tenant: whose session it is; RSPP_TENANT, else default.
        purpose: why you ask for the words that were said; the request is logged. Without it none are shown.
        principal: who asks; the name of this user by default.
        role: in which role.
        fidelity: L0 asks for no words, L1 for masked ones, L2 for what the tenant's policy shows.
        check_replay: replay the recording and say on the page whether it comes out identical.
        json: print the page's data as one JSON object instead of writing the page.
    """
    from rspp.evidence.permission import of_place, open_permitted
    from rspp.tooling.call_page.document import call_document
    from rspp.tooling.call_page.page import call_page, write_whole
    from rspp.tooling.call_page.replayed import replay_words
    from rspp.tooling.call_page.room import MAX_RECORDS
    from rspp.tooling.call_page.source import model_of

    asking = Asking(evidence=evidence, tenant=tenant, role=role, purpose=purpose, principal=principal)
    records: Iterator[dict[str, Any]] | None = None
    if purpose and fidelity != "L0":
        from rspp.evidence.words import records_for

        if not role:
            raise ConfigurationError(
                "report: --purpose asks for words without saying in which role",
                hint="add --role ROLE, such as oncall, operator or compliance",
            )
        place = place_of(recording, asking)
        asker = of_place(asker_of(asking), place)
        real = place.resolve()
        # The folder's own rules are asked once, for records and words together.
        found = open_permitted(
            place,
            asker,
            fidelity=fidelity,
            classes=("metadata", "text_raw"),
            answered=(real if real.is_dir() else real.parent).parent,
        )
        records = records_for(
            place,
            principal=asker.principal,
            role=role,
            purpose=purpose,
            fidelity=fidelity,
            tenant=asker.tenant if found.wordless else "",
        )
    else:
        found = open_asked(recording, asking)
    model = model_of(found, records, most=MAX_RECORDS)
    said = replay_words(found) if check_replay else ""
    if json:
        print_json(call_document(model, replay=said))
        return 0
    try:
        write_whole(out, call_page(model, replay=said))
    except OSError as error:
        raise _unwritable(out, error) from error
    print(f"wrote {out}")
    return 0


def _dumped(value: dict[str, Any]) -> str:
    return json_text.dumps(value, separators=(",", ":"))


def _lines_out(lines: Iterable[str], out: Path | None) -> None:
    if out is None:
        for line in lines:
            sys.stdout.write(line + "\n")
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists() and not out.is_file():
            with out.open("w", encoding="utf-8", errors="replace") as device:
                device.writelines(line + "\n" for line in lines)
        else:
            _file_out(lines, out)
    except OSError as error:
        raise _unwritable(out, error) from error
    print(f"wrote {out}", file=sys.stderr)


def _file_out(lines: Iterable[str], out: Path) -> None:
    """Write a file, all or nothing: an export can be cut off by a full disk or by the keyboard."""
    part = out.with_name(out.name + ".part")
    try:
        with part.open("w", encoding="utf-8", errors="replace") as file:
            file.writelines(line + "\n" for line in lines)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def _unwritable(out: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"--out {out}: cannot be written: {error.strerror or error}",
        hint="name a file in a folder that this user may write to",
    )
