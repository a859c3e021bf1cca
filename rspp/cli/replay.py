"""``rspp-cli replay`` and ``what-if``: a recorded call once more."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, validators

from rspp.cli.recorded import Asking, open_asked
from rspp.terminal import print_json, result_console, style_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rspp.evidence.reader import Recording
    from rspp.replay.engine import ReplayResult
    from rspp.replay.turn_changes import TurnChange, TurnSide

Amount = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=2**31 - 1))]
SHOWN_DIVERGENCES = 20
"""Most divergences that people are shown; ``--json`` gives all."""
NOBODY = Asking()
PARTS = ("policy", "plan", "providers")


def replay(
    recording: str,
    *,
    mode: Literal[
        "recompute_decisions",
        "replay_decisions",
        "playback_recorded_provider_outputs",
        "re_simulate_nodes",
    ] = "recompute_decisions",
    asking: Asking = NOBODY,
    set_: tuple[str, ...] = (),
    steps: Amount | None = None,
    to_turn: Amount | None = None,
    to_ms: Amount | None = None,
    stint: Amount | None = None,
    json: bool = False,
) -> int:
    """Run a recorded call again and say whether it comes out the same.

    Args:
        recording: a session's folder, one of its files, or the id of a session in the evidence folder.
        mode: recompute_decisions runs the same kernel over the recorded inputs; replay_decisions takes the
            recorded decisions for true and checks them; playback_recorded_provider_outputs lets the kernel
            run freely against the recorded world; re_simulate_nodes hears the recorded audio again.
        asking: whose recording is asked for, and by whom.
        set_: change a setting for the replay, as policy.confirm_ms=500; may be given more than once.
        steps: stop after that many records and show the state there.
        to_turn: stop when that turn has opened and show the state there.
        to_ms: stop that many milliseconds after the beginning and show the state there.
        stint: in which stint of a call that was taken over, from 1; the last one by default.
        json: print one JSON object.

    Returns:
        0 when nothing diverges, 1 when something does.
    """
    from rspp.replay import engine

    if mode == "re_simulate_nodes":
        found = open_asked(recording, asking, fidelity="L2", classes=("metadata", "audio_raw"))
    else:
        found = open_asked(recording, asking)
    engine.require_mode(found, mode)
    changes = parse_changes(set_)
    if mode in ("replay_decisions", "re_simulate_nodes"):
        _refuse_changes(set_, mode)
    standing = steps is not None or to_turn is not None or to_ms is not None
    _check_place(mode, standing=standing, stint=stint)
    if standing:
        return _stand_at(found, changes, steps, to_turn, to_ms, stint, json=json)
    if mode in ("playback_recorded_provider_outputs", "re_simulate_nodes"):
        return _again(found, mode, changes, json=json)
    result = engine.take_decisions(found) if mode == "replay_decisions" else engine.recompute(found, changes)
    if json:
        print_json(result.document())
    else:
        _show_result(result, found)
    return 0 if result.identical else 1


def what_if(
    recording: str,
    *,
    pipeline: Path | None = None,
    set_: tuple[str, ...] = (),
    asking: Asking = NOBODY,
    json: bool = False,
) -> int:
    """Show which turns of a recorded call would have gone differently under other settings.

    Args:
        recording: a session's folder, one of its files, or the id of a session in the evidence folder.
        pipeline: another pipeline file, or another version of it.
        set_: change one setting, as policy.confirm_ms=500 or policy.interruptions=false.
        asking: whose recording is asked for, and by whom.
        json: print one JSON object.
    """
    from rspp.contracts.errors import ConfigurationError
    from rspp.replay.engine import require_mode

    if pipeline is None and not set_:
        raise ConfigurationError(
            "what-if: nothing is changed", hint="name another --pipeline, or --set policy.confirm_ms=500"
        )
    changes = pipeline_changes(pipeline) if pipeline is not None else {}
    for part, values in parse_changes(set_).items():
        changes[part] = {**changes.get(part, {}), **values}
    found = open_asked(recording, asking)
    require_mode(found, "playback_recorded_provider_outputs")
    _again(found, "playback_recorded_provider_outputs", changes, json=json)
    return 0


def render_audio(
    recording: str,
    *,
    out: Path,
    role: str,
    purpose: str,
    principal: str = "",
    evidence: Path = Path("evidence"),
    tenant: str = "",
) -> None:
    """Write the sound of a call as it was heard: the caller on the left, the agent on the right.

    The request is logged, and allowed only where the tenant's policy shows sound.

    Args:
        recording: a session's folder, or the id of a session in the evidence folder.
        out: WAV file to write, 24 kHz.
        role: in which role you ask, such as oncall, operator or compliance.
        purpose: what for, such as debug, incident, eval or compliance.
        principal: who asks; the name of this user by default.
        evidence: folder of the recordings, for a session id.
        tenant: whose session it is; RSPP_TENANT, else default.
    """
    from rspp.cli.recorded import asker_of
    from rspp.evidence.words import permit_sound
    from rspp.replay.audio import read_audio, write_wav

    asking = Asking(evidence=evidence, tenant=tenant, role=role, purpose=purpose, principal=principal)
    found = open_asked(recording, asking, fidelity="L2", classes=("audio_raw",))
    folder = found.path if found.path.is_dir() else found.path.parent
    if not found.wordless:
        permit_sound(folder.resolve(), principal=asker_of(asking).principal, role=role, purpose=purpose)
    seconds = write_wav(read_audio(folder.resolve(), found.stints), out)
    print(f"wrote {out}: {seconds:.1f} s", file=sys.stderr)


def parse_changes(pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read ``part.key=value`` texts; values are JSON, and whatever is not is a text.

    Raises:
        ConfigurationError: one of them is not of that form.
    """
    from rspp.contracts.errors import ConfigurationError

    changes: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        part, _, key = name.partition(".")
        if not equals or part not in PARTS or not key:
            raise ConfigurationError(
                f"--set {pair!r} is not a setting",
                hint=f"write PART.KEY=VALUE with a part of {', '.join(PARTS)}, as policy.confirm_ms=500",
            )
        try:
            value = json_text.loads(text)
        except ValueError:
            value = text
        changes.setdefault(part, {})[key] = value
    return changes


def pipeline_changes(file: Path) -> dict[str, dict[str, Any]]:
    """Return the settings of a pipeline file as changes.

    Raises:
        ConfigurationError: the file is not a pipeline.
    """
    from rspp.pipeline.candidates import provider_policy
    from rspp.pipeline.loader import load_pipeline
    from rspp.pipeline.normalise import plan_template, turn_policy

    spec = load_pipeline(file)
    others = spec.alternatives
    return {
        "policy": turn_policy(spec),
        "plan": dict(plan_template(spec)),
        "providers": provider_policy(
            spec,
            responders=1 + len(others.llm),
            synthesizers=1 + len(others.tts),
            recognisers=1 + len(others.stt),
        ),
    }


def _refuse_changes(pairs: Sequence[str], mode: str) -> None:
    from rspp.contracts.errors import ConfigurationError

    if pairs:
        raise ConfigurationError(
            f"--set has no effect with --mode {mode}", hint="leave it out, or use recompute_decisions"
        )


def _check_place(mode: str, *, standing: bool, stint: int | None) -> None:
    from rspp.contracts.errors import ConfigurationError

    if standing and mode in ("playback_recorded_provider_outputs", "re_simulate_nodes"):
        raise ConfigurationError(
            f"--steps, --to-turn and --to-ms have no effect with --mode {mode}",
            hint="leave them out, or use recompute_decisions",
        )
    if stint is not None and not standing:
        raise ConfigurationError(
            f"--stint {stint} has no effect alone", hint="say where in it: --steps, --to-turn or --to-ms"
        )


def _stand_at(
    recording: Recording,
    changes: dict[str, dict[str, Any]],
    steps: int | None,
    to_turn: int | None,
    to_ms: int | None,
    stint: int | None,
    *,
    json: bool,
) -> int:
    from rspp.contracts.errors import ConfigurationError
    from rspp.replay.engine import ReplayCursor

    if not recording.stints:
        raise ConfigurationError(
            "the recording has no stint to stand in", hint="name a session's folder with segments"
        )
    number = len(recording.stints) if stint is None else stint
    if not 1 <= number <= len(recording.stints):
        raise ConfigurationError(
            f"--stint {number}: the recording has {len(recording.stints)} of them",
            hint="runtimes that held the call count from 1",
        )
    cursor = ReplayCursor(recording.stints[number - 1], changes)
    if to_turn is not None and not cursor.to_turn(to_turn):
        raise ConfigurationError(
            f"--to-turn {to_turn}: no such turn opens in stint {number} of {len(recording.stints)}",
            hint="rspp-cli timeline show lists the turns; --stint chooses the runtime that held the call",
        )
    if to_ms is not None:
        cursor.to_ms(to_ms)
    if steps is not None:
        cursor.step(steps)
    state = {"stint": number, **cursor.state()}
    if json:
        print_json(state)
    else:
        for name, value in state.items():
            print(f"{name:<12} {value}")
    return 0


def _again(recording: Recording, mode: str, changes: dict[str, dict[str, Any]], *, json: bool) -> int:
    """Run the call again in a closed loop and compare turn by turn; returns 1 when a turn differs."""
    from rspp.replay import turn_changes
    from rspp.replay.nodes import hear_again
    from rspp.replay.recorded_call import read_call
    from rspp.replay.what_if import run_what_if

    documents: list[dict[str, Any]] = []
    differing = 0
    for stint in recording.stints:
        call = read_call(stint.header, list(stint.records()))
        listened = mode == "re_simulate_nodes"
        trace = hear_again(recording, stint) if listened else run_what_if(call, **changes)
        tolerance_ms = turn_changes.TOLERANCE_MS
        if listened:
            trace.match(call.trace)
            tolerance_ms = turn_changes.NODE_TOLERANCE_MS
        turns = turn_changes.compare_turns(call.trace, trace, int(stint.header["created_us"]), tolerance_ms)
        differing += len(turn_changes.changed(turns))
        documents.append(
            {
                "stint": stint.header["stint"],
                "epoch": stint.header["epoch"],
                "turns": turn_changes.as_documents(turns),
            }
        )
        if not json:
            _show_turns(turns, f"stint of epoch {stint.header['epoch']}")
    if json:
        print_json(
            {
                "session_id": recording.session_id,
                "mode": mode,
                "changes": changes,
                "differing_turns": differing,
                "stints": documents,
                "damage": [str(damage) for damage in recording.damage],
            }
        )
    else:
        for damage in recording.damage:
            print(f"damage: {damage}")
    return 1 if differing else 0


def _show_result(result: ReplayResult, recording: Recording) -> None:
    style = style_of(sys.stdout)
    for stint, kept in zip(result.stints, recording.stints, strict=True):
        said = style.good("identical") if stint.identical else style.bad("not identical")
        print(
            f"stint {stint.stint} (epoch {stint.epoch}): {said}: {stint.compared} of {stint.records} records "
            f"compared, {stint.inputs} of them inputs; {stint.recorded_ms / 1000:.1f} s of call "
            f"in {stint.took_ms:.1f} ms"
        )
        if stint.gap_at_us is not None:
            why = f" ({stint.gap_reason})" if stint.gap_reason else ""
            begun_us = int(kept.header["created_us"])
            at = f"{max(0, stint.gap_at_us - begun_us) / 1e6:.2f} s"
            print(f"  inputs are missing from {at} on{why}: nothing after that was judged")
        for fault in stint.faults[:SHOWN_DIVERGENCES]:
            print(f"  {fault}")
        for divergence in stint.divergences[:SHOWN_DIVERGENCES]:
            print(f"  {divergence.class_} {divergence.scope}: {divergence.message}")
            for name, text in (("recorded", divergence.recorded), ("replayed", divergence.replayed)):
                print(style.faint(f"    {name}  {text or '(nothing)'}"))
        more = len(stint.divergences) + stint.unlisted - SHOWN_DIVERGENCES
        if more > 0:
            print(f"  and {more} more; --json gives all")
    for damage in result.damage:
        print(f"damage: {damage}")


def _show_turns(turns: Sequence[TurnChange], title: str) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in ("turn", "as it was", "as it would have been", "what differs"):
        table.add_column(column, overflow="fold")
    for change in turns:
        notes = [*change.changes, *(f"assumed: {text}" for text in change.assumptions)]
        number = change.recorded or change.replayed
        assert number is not None
        table.add_row(
            str(number.number), _side(change.recorded), _side(change.replayed), "\n".join(notes) or "-"
        )
    result_console().print(table)


def _side(side: TurnSide | None) -> str:
    if side is None:
        return "-"
    ending = f"{side.outcome}({side.reason})" if side.reason else side.outcome or "open"
    spoken = "silent" if side.first_output_ms is None else f"speaks after {side.first_output_ms} ms"
    heard = f"heard {side.heard_ms / 1000:.1f} s"
    return f"{side.intent} at {side.opened_ms / 1000:.2f} s, {spoken}, {heard}, {ending}"
