"""A call as the JSON document that the page embeds and the commands print."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from rspp.tooling.call_page.model import ROW_TITLES, ROWS, SHED, VOICE_STEP_US
from rspp.tooling.call_page.room import MAX_RECORDS, MAX_TURNS, Room

if TYPE_CHECKING:
    from rspp.tooling.call_page.model import Attempt, CallModel, Kept, TurnView, Words

FORMAT = 1


def call_document(
    model: CallModel, *, replay: str = "", most_turns: int | None = MAX_TURNS
) -> dict[str, Any]:
    """Return everything that the page shows, as plain JSON values.

    Args:
        model: the call.
        replay: what replaying the recording gave, for people; empty when it was not replayed.
        most_turns: turns that the document has at most; none for all.

    Returns:
        Times are microseconds from the first record; ``records`` entries name their place in the
        recording (``index``), and elements refer to them by their position in ``records``.
    """
    kept, left_out = _chosen(model)
    places = {place: number for number, place in enumerate(kept)}
    ordered = model.ordered
    turns = ordered if most_turns is None else ordered[:most_turns]
    if len(ordered) > len(turns):
        left_out["turns"] = len(ordered) - len(turns)
    absent = {turn.key for turn in ordered[len(turns) :]}
    spans = [span for span in model.spans if not span.records or any(one in places for one in span.records)]

    def known(records: list[int]) -> list[int]:
        return [places[place] for place in records if place in places]

    return {
        "format": FORMAT,
        "session_id": model.session_id,
        "tenant": model.tenant,
        "pipeline": model.pipeline,
        "level": model.level,
        "kernel": model.kernel,
        "integrity": model.integrity,
        "replay": replay,
        "started_wall_ms": model.started_wall_ms,
        "ended_reason": model.ended_reason,
        "duration_us": model.duration_us,
        "rows": [*_rows(model)],
        "stints": [
            {
                "begin_us": stint.begin_us,
                "end_us": stint.end_us,
                "epoch": stint.epoch,
                "pipeline": stint.pipeline,
                "resumed": stint.resumed,
            }
            for stint in model.stints
        ],
        "turns": [_turn(turn) | {"records": known(turn.records)} for turn in turns],
        "spans": [
            {
                "row": span.row,
                "begin_us": span.begin_us,
                "end_us": model.duration_us if span.end_us is None else span.end_us,
                "name": span.name,
                "style": span.style,
                "turn": span.turn,
                "records": known(span.records),
            }
            for span in spans
            if span.turn not in absent
        ],
        "marks": [
            {
                "row": mark.row,
                "at_us": mark.at_us,
                "name": mark.name,
                "style": mark.style,
                "turn": mark.turn,
                "records": known(mark.records),
            }
            for mark in model.marks
            if known(mark.records) or not mark.records
        ],
        "edges": [
            {
                "name": edge.name,
                "shed": edge.shed,
                "stops": edge.stops,
                "drops": edge.drops,
                "depth": [[at, queued, places.get(place, -1)] for at, queued, place in edge.depth],
            }
            for edge in model.edges.values()
        ],
        "voice": {"step_us": VOICE_STEP_US, "permille": model.voice},
        "frames": [
            {
                "begin_us": run.begin_us,
                "end_us": run.end_us,
                "turn": run.turn,
                "verdict": run.verdict,
                "frames": run.frames,
                "samples": run.samples,
            }
            for run in model.frames
        ],
        "missing_records": model.incomplete,
        "damage": [{"code": d.code, "where": d.where, "message": d.message} for d in model.damage],
        "counts": dict(sorted(model.counts.items())),
        "left_out": left_out,
        "records": [_record(model.records[place]) for place in kept],
    }


def embedded(document: dict[str, Any]) -> str:
    """Return a document as text that is safe inside a script element of a page."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    # Neither an end tag nor a comment may be seen by the parser of the page, and no line separator by that
    # of the script.
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode("utf-8", "replace").decode("utf-8")


def _rows(model: CallModel) -> list[dict[str, str]]:
    rows = [{"id": row, "title": ROW_TITLES[row]} for row in ROWS if row != "missing"]
    rows += [{"id": f"edge:{name}", "title": name} for name in model.edges]
    if model.incomplete:
        rows.append({"id": "missing", "title": ROW_TITLES["missing"]})
    return rows


def _record(kept: Kept) -> dict[str, Any]:
    return {"index": kept.index, "at_us": kept.at_us, "turn": kept.turn, "record": kept.record}


def _turn(turn: TurnView) -> dict[str, Any]:
    return {
        "key": turn.key,
        "epoch": turn.epoch,
        "number": turn.number,
        "states": [[state, at] for state, at in turn.states],
        "proposed_us": turn.proposed_us,
        "opened_us": turn.opened_us,
        "first_output_us": turn.first_output_us,
        "spoken_us": turn.spoken_us,
        "ended_us": turn.ended_us,
        "closed_us": turn.closed_us,
        "speech_end_us": turn.speech_end_us,
        "outcome": turn.outcome,
        "reason": turn.reason,
        "ending": turn.ending,
        "barge_in": turn.barge_in,
        "plan_hash": turn.plan_hash,
        "caller": _words(turn.caller),
        "agent": _words(turn.agent),
        "latencies_us": turn.latencies,
        "holds": [[hold.begin_us, hold.end_us] for hold in turn.holds],
        "attempts": [_attempt(attempt) for attempt in turn.attempts],
    }


def _words(words: Words | None) -> dict[str, Any] | None:
    return None if words is None else {"words": words.count, "text": words.text}


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "invocation": attempt.invocation,
        "modality": attempt.modality,
        "provider": attempt.provider,
        "attempt": attempt.number,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "decision": attempt.decision,
        "begin_us": attempt.begin_us,
        "end_us": attempt.end_us,
    }


def _chosen(model: CallModel) -> tuple[list[int], dict[str, int]]:
    """Choose the records that the page carries, and count what it leaves out."""
    room = Room(MAX_RECORDS)
    chosen: dict[int, None] = {}
    for place, kept in enumerate(model.records):
        if kept is SHED:
            continue
        taken, given_up = room.take(place, kept.record)
        for old in given_up:
            del chosen[old]
        if taken:
            chosen[place] = None
    counted = Counter(model.left_out)
    counted.update(room.left_out)
    return list(chosen), {sort: count for sort, count in counted.items() if count}
