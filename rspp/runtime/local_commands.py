"""The command line of ``rspp-local-runner``: the same pipeline and kernel over files, in virtual time."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
from cyclopts import App, Parameter

from rspp.authority.clock import BootClock
from rspp.contracts.envelope import DEFAULT_TENANT
from rspp.contracts.errors import ConfigurationError
from rspp.controlplane.refreshing import control_plane_running
from rspp.controlplane.settings import control_plane_settings
from rspp.evidence.export import write_lines
from rspp.evidence.payloads import PayloadStore
from rspp.evidence.reader import open_recording
from rspp.evidence.writer import EvidenceWriter
from rspp.pipeline.loader import load_pipeline
from rspp.pipeline.normalise import key_variables, needs_network, recording_level
from rspp.runtime.environment import EvidencePlan, session_of_room, tenant_name
from rspp.runtime.loopback_call import loopback_call
from rspp.session.offload import InlineOffloader, ThreadOffloader
from rspp.session.virtual_time import VirtualClock, run_virtual
from rspp.terminal import version
from rspp.transports.wav import WavCaller, WavRecorder, read_wav

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rspp.contracts.media import Pcm
    from rspp.controlplane.settings import ControlPlaneSettings
    from rspp.pipeline.spec import PipelineSpec
    from rspp.session.recording import Recorder

log = structlog.get_logger(__name__)
TERMINATED = 128 + signal.SIGTERM
"""Exit status after SIGTERM."""
MOST_CALLS = 10_000
"""Most calls of files with one name in an evidence folder."""

app = App(
    name="rspp-local-runner",
    help="Run a pipeline over WAV files: the caller's speech in, the agent's voice out. Without providers "
    "over a network the call takes place in virtual time, which begins on 2023-11-14 at 22:13:20 UTC: equal "
    "runs give equal recordings.",
    version=version,
)


def session_of(source: Path, recorded: Path | None = None) -> str:
    """Return the id of the session that a file becomes.

    Args:
        source: the caller's file.
        recorded: folder of the tenant's recordings. A file that is heard again is another call, not the same
            one taken over, so its session has a number that none there has.

    Raises:
        ConfigurationError: there are ``MOST_CALLS`` recordings of files with this name.
    """
    name = session_of_room(f"file-{source.stem}"[:90])
    if recorded is None or not (recorded / name).exists():
        return name
    for number in range(2, MOST_CALLS + 1):
        if not (recorded / f"{name}-{number}").exists():
            return f"{name}-{number}"
    raise ConfigurationError(
        f"{recorded}: holds {MOST_CALLS} calls of files named {source.stem}", hint="name another --evidence"
    )


def hold_call(
    speech: Pcm,
    voice: WavRecorder,
    spec: PipelineSpec,
    session_id: str,
    recorder: Recorder | None = None,
    *,
    tenant: str = DEFAULT_TENANT,
    control_plane: ControlPlaneSettings | None = None,
) -> list[tuple[bool, str]]:
    """Hold a call whose caller says ``speech``; write the agent's voice to ``voice``.

    Args:
        speech: what the caller says.
        voice: takes what the agent says.
        spec: the pipeline.
        session_id: id of the conversation.
        recorder: takes the evidence.
        tenant: whose call it is.
        control_plane: where snapshots come from; none holds the call without a control plane.

    Returns:
        The final transcripts in order: whether the caller's, and the words.

    Raises:
        ConfigurationError: a provider is misconfigured, or there is no usable snapshot at the start.
    """
    caller = WavCaller(speech, voice)
    virtual = not needs_network(spec)

    async def hold() -> None:
        clock = VirtualClock() if virtual else BootClock()
        reading = InlineOffloader() if virtual else ThreadOffloader("control-plane", threads=1)
        with closing(reading):
            async with control_plane_running(control_plane, clock, reading) as plane:
                await loopback_call(
                    caller,
                    spec,
                    session_id=session_id,
                    recorder=recorder,
                    tenant=tenant,
                    turn_starts=plane,
                )

    run = run_virtual if virtual else asyncio.run
    run(hold())
    return caller.transcripts


@app.default
def local_runner(
    *,
    in_: Annotated[Path, Parameter(name="--in")],
    out: Path,
    pipeline: Path,
    evidence: Path | None = None,
    tenant: str = "",
    timeline: Path | None = None,
    control_plane: str = "",
) -> None:
    """Run the pipeline over one file.

    Args:
        in_: WAV file with the caller's speech.
        out: WAV file to write: the agent's voice, mono at 24 kHz, on the caller's timeline.
        pipeline: pipeline file.
        evidence: folder for the call's recording, EVIDENCE/TENANT/file-NAME, with a number for a file that is
            heard again.
        tenant: whose call it is; RSPP_TENANT by default, or default.
        timeline: write what was recorded there too, one JSON object a line.
        control_plane: FILE, env:NAME or URL[,URL...] of the snapshot that turns start from; the
            RSPP_CP_DISTRIBUTION_ variables otherwise, and without any there is no control plane. A snapshot's
            expiry counts in the time of the call.
    """
    spec = load_pipeline(pipeline)
    snapshots = control_plane_settings(control_plane)
    plan = EvidencePlan(folder=evidence, tenant=tenant_name(tenant))
    if out.exists() and in_.exists() and out.samefile(in_):
        raise ConfigurationError(
            f"--out {out} is the caller's file, which it would replace",
            hint="name another file for the answer",
        )
    # Both files come first: nothing is recorded of a call that cannot be held.
    speech = read_wav(in_)
    with _terminable(), WavRecorder(out) as voice:
        if plan.folder is None and timeline is None:
            transcripts = hold_call(
                speech, voice, spec, session_of(in_), tenant=plan.tenant, control_plane=snapshots
            )
        else:
            kept = None if plan.folder is None else plan.folder / plan.tenant
            session_id = session_of(in_, kept)
            transcripts = _recorded(speech, voice, spec, session_id, plan, timeline, snapshots)
    for is_caller, text in transcripts:
        print(f"{'caller' if is_caller else 'agent '}  {text}")
    print(f"wrote {out}", file=sys.stderr)


def _recorded(
    speech: Pcm,
    voice: WavRecorder,
    spec: PipelineSpec,
    session_id: str,
    plan: EvidencePlan,
    timeline: Path | None,
    control_plane: ControlPlaneSettings | None,
) -> list[tuple[bool, str]]:
    with ExitStack() as stack:
        if timeline is not None:
            stack.enter_context(_no_empty_file(timeline))
            # Whether it can be written is told before the call and not after it.
            write_lines((), timeline)
        folder = plan.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rspp-")))
        if plan.folder is not None:
            stack.enter_context(_cut_off_is_told(folder / plan.tenant / session_id))
        payloads = PayloadStore(folder, plan.tenant, secret_names=key_variables(spec))
        with EvidenceWriter(folder, plan.tenant, fsync=plan.fsync, payloads=payloads) as writer:
            recorder = writer.open(session_id, epoch=1, level=recording_level(spec))
            transcripts = hold_call(
                speech, voice, spec, session_id, recorder, tenant=plan.tenant, control_plane=control_plane
            )
            if not recorder.close():
                log.error("records are missing from the recording", records=recorder.dropped)
        recording = open_recording(folder / plan.tenant / session_id)
        if timeline is not None:
            write_lines(recording.stints[-1].records(), timeline)
    if plan.folder is not None:
        print(f"recorded {recording.path}", file=sys.stderr)
    return transcripts


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the call as the keyboard does: what was recorded is kept, what is half is removed."""
    terminated = False

    def terminate(*_: object) -> None:
        nonlocal terminated
        terminated = True
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        if terminated:
            raise SystemExit(TERMINATED) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _no_empty_file(path: Path) -> Iterator[None]:
    """Remove a file that was made for a call that did not end."""
    made = not path.exists()
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if made and not path.stat().st_size:
                path.unlink()
        raise


@contextmanager
def _cut_off_is_told(session: Path) -> Iterator[None]:
    """Say what is left of a call that did not end, or leave no folder where nothing is.

    Args:
        session: folder of the session, in that of its tenant, in that of all evidence.
    """
    folders = (session, session.parent, session.parent.parent)
    made = [folder for folder in folders if not folder.exists()]
    try:
        yield
    except BaseException:
        if any(session.glob("*.segment")):
            print(f"recorded {session}, as far as the call went", file=sys.stderr)
        # Only what is empty goes: somebody else may have recorded beside it meanwhile.
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise
