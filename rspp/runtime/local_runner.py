"""``rspp-local-runner``: the same pipeline and kernel over files, in virtual time."""

from __future__ import annotations

import asyncio
import sys
from contextlib import nullcontext
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations when it parses
from typing import Annotated

from cyclopts import App, Parameter

from rspp import _kernel
from rspp.evidence.timeline import TimelineWriter
from rspp.pipeline.loader import load_pipeline
from rspp.pipeline.spec import OpenAiEndpoint, PipelineSpec
from rspp.runtime.logs import set_up_logs
from rspp.runtime.loopback_call import loopback_call
from rspp.session.virtual_time import run_virtual
from rspp.terminal import run_command
from rspp.transports.wav import WavCaller, WavRecorder, read_wav

app = App(
    name="rspp-local-runner",
    help="Run a pipeline over WAV files: the caller's speech in, the agent's voice out.",
    version=_kernel.VERSION,
)


def needs_network(spec: PipelineSpec) -> bool:
    """Whether a provider of the pipeline answers over a network, which virtual time cannot hurry."""
    sections = (spec.stt, spec.llm, spec.tts, *spec.alternatives.llm, *spec.alternatives.tts)
    return any(isinstance(section, OpenAiEndpoint) for section in sections)


def run_files(
    source: Path, target: Path, spec: PipelineSpec, timeline: TimelineWriter | None = None
) -> list[tuple[bool, str]]:
    """Hold a call whose caller says what is in ``source``; write the agent's voice to ``target``.

    Returns:
        The final transcripts in order: whether the caller's, and the words.

    Raises:
        ConfigurationError: a file cannot be read or written, or a provider is misconfigured.
    """
    speech = read_wav(source)
    with WavRecorder(target) as recorder:
        caller = WavCaller(speech, recorder)
        run = asyncio.run if needs_network(spec) else run_virtual
        run(loopback_call(caller, spec, session_id=f"file-{source.stem}", timeline=timeline))
    return caller.transcripts


@app.default
def local_runner(
    *,
    in_: Annotated[Path, Parameter(name="--in")],
    out: Path,
    pipeline: Path,
    timeline: Path | None = None,
) -> None:
    """Run the pipeline over one file.

    Args:
        in_: WAV file with the caller's speech.
        out: WAV file to write: the agent's voice, mono at 24 kHz, on the caller's timeline.
        pipeline: pipeline file.
        timeline: write the call's evidence there, one JSON object a line.
    """
    spec = load_pipeline(pipeline)
    with TimelineWriter(timeline) if timeline is not None else nullcontext() as writer:
        transcripts = run_files(in_, out, spec, writer)
    for is_caller, text in transcripts:
        print(f"{'caller' if is_caller else 'agent '}  {text}")
    print(f"wrote {out}", file=sys.stderr)


def main() -> None:
    """Entry point of ``rspp-local-runner``."""
    set_up_logs()
    sys.exit(run_command(app))
