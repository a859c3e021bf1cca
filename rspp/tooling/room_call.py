"""One call in a real room: tokens, the programs that take part in it, and what the caller brought home.

The demo, the bench and the drill all make their calls through here.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from livekit import api

from rspp.contracts.errors import TransportError
from rspp.tooling.caller.script import StepRecord
from rspp.tooling.measure import Recording, read_recording
from rspp.tooling.processes import ChildProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from rspp.tooling.livekit_server import LiveKitServer

CALLER_TOKEN_VARIABLE = "RSPP_CALLER_TOKEN"
ECHO_TOKEN_VARIABLE = "RSPP_ECHO_TOKEN"
CALLER_IDENTITY = "caller"
END_LIMIT_SECONDS = 30.0


def participant_token(server: LiveKitServer, room: str, identity: str) -> str:
    """Return a token for an ordinary participant of one room, good for an hour."""
    return (
        api.AccessToken(server.api_key, server.api_secret)
        .with_identity(identity)
        .with_ttl(timedelta(hours=1))
        .with_grants(api.VideoGrants(room_join=True, room=room))
        .to_jwt()
    )


@dataclass(frozen=True, slots=True)
class CallResult:
    """What the caller brought home.

    Attributes:
        outcome: ``completed`` or why the script was not carried out.
        steps: steps carried out.
        events: everything that it noticed, as written.
        recording: sent and heard voice.
        folder: where ``call.wav`` and the rest lie.
    """

    outcome: str
    steps: tuple[StepRecord, ...]
    events: tuple[dict[str, Any], ...]
    recording: Recording
    folder: Path

    def named(self, prefix: str) -> list[StepRecord]:
        """Return the steps whose name begins with ``prefix``, in order."""
        return [step for step in self.steps if step.name.startswith(prefix)]

    @property
    def started_wall_ms(self) -> int:
        """Wall clock at sample 0; only for drawing both parties on one page."""
        return next((int(event["wall_ms"]) for event in self.events if event["event"] == "started"), 0)


def write_json(path: Path, document: object) -> None:
    """Write a JSON file, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    temporary.replace(path)


def echo_process(server: LiveKitServer, room: str, folder: Path) -> ChildProcess:
    """Return a bare echo participant that is not started yet."""
    return ChildProcess(
        [sys.executable, "-m", "rspp.tooling.echo", "--url", server.url],
        environment={ECHO_TOKEN_VARIABLE: participant_token(server, room, "echo")},
        log_path=folder / "echo.log",
    )


def runtime_process(
    server: LiveKitServer,
    room: str,
    pipeline: Path,
    folder: Path,
    *,
    log_name: str = "runtime.log",
    extra: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> ChildProcess:
    """Return a runtime for one room that is not started yet.

    The key goes by the environment, never by arguments, which every user of the machine can list.
    """
    return ChildProcess(
        [
            sys.executable,
            "-m",
            "rspp.runtime.main",
            "join",
            "--room",
            room,
            "--pipeline",
            str(pipeline),
            "--state",
            str(folder / "state"),
            "--evidence",
            str(folder / "evidence"),
            *extra,
        ],
        environment={**server.environment, **(environment or {})},
        log_path=folder / log_name,
    )


async def make_call(
    server: LiveKitServer,
    room: str,
    script: Mapping[str, Any],
    folder: Path,
    *,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    tracks: bool = False,
) -> CallResult:
    """Run the caller's process to its end.

    Args:
        server: the room's server.
        room: name of the room.
        script: what the caller does; see ``rspp.tooling.caller.script``.
        folder: takes the recording.
        on_event: sees every event while the call runs.
        tracks: also keep a channel for each voice heard.

    Raises:
        TransportError: the caller could not make the call at all.
    """
    write_json(folder / "script.json", dict(script))
    argv = [sys.executable, "-m", "rspp.tooling.caller", "--url", server.url]
    argv += ["--token-env", CALLER_TOKEN_VARIABLE, "--script", str(folder / "script.json")]
    argv += ["--out", str(folder)]
    if tracks:
        argv.append("--tracks")
    events: list[dict[str, Any]] = []
    caller = ChildProcess(
        argv,
        environment={CALLER_TOKEN_VARIABLE: participant_token(server, room, CALLER_IDENTITY)},
        log_path=folder / "caller.log",
        read_output=True,
    )
    async with caller:
        async for line in caller.lines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                events.append(event)
                if on_event is not None:
                    on_event(event)
        status = await caller.wait(END_LIMIT_SECONDS)
        if status not in {0, 3}:
            raise TransportError(
                f"the caller ended with status {status}: {caller.log_tail(1) or 'no message'}",
                hint=f"see {caller.log_path}",
            )
    return load_call(folder, tuple(events))


def load_call(folder: Path, events: tuple[dict[str, Any], ...] | None = None) -> CallResult:
    """Read a call back from its folder."""
    if events is None:
        text = (folder / "events.jsonl").read_text("utf-8")
        events = tuple(json.loads(line) for line in text.splitlines())
    summary = json.loads((folder / "caller.json").read_text("utf-8"))
    steps = tuple(
        StepRecord(event["do"], event["name"], event["text"], event["from"], event["to"])
        for event in events
        if event["event"] == "step"
    )
    return CallResult(summary["outcome"], steps, events, read_recording(folder / "call.wav"), folder)
