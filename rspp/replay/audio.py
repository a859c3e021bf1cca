"""The sound of a recorded call: what the caller said, and the agent's voice as it left the gate.

Frames that a hold took back before they were played are taken back here too, so the voice is the one the
room was given: nothing that was fenced, nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import soxr

from rspp.contracts.errors import EvidenceError
from rspp.contracts.media import INPUT_RATE_HZ, OUTPUT_RATE_HZ, Pcm
from rspp.evidence.payloads import PayloadStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from rspp.contracts.envelope import PayloadClass
    from rspp.evidence.reader import Stint

JITTER_US = 60_000
"""Audio that comes at most this long after the end of what came before follows it without a gap: three
frames, more than a busy machine delays one."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Sound that arrived or left in one go.

    Attributes:
        at_us: when, from the beginning of the recording.
        pcm: samples, int16.
        cleared: samples before it that were taken back unheard.
    """

    at_us: int
    pcm: Pcm
    cleared: int = 0


@dataclass(frozen=True, slots=True)
class CallAudio:
    """Both parties on one time axis, from the beginning of the recording.

    Attributes:
        caller: int16 at 16 kHz.
        agent: int16 at 24 kHz.
    """

    caller: Pcm
    agent: Pcm


def read_audio(folder: Path, stints: Sequence[Stint], *, stint: str = "") -> CallAudio:
    """Read the sound of a recording.

    Args:
        folder: the session's folder, ``EVIDENCE/TENANT/SESSION``.
        stints: the recording's stints.
        stint: only this one, from its own beginning; all of them when empty.

    Raises:
        EvidenceError: no sound was kept, or it cannot be read.
    """
    origins = _origins([one for one in stints if not stint or one.header["stint"] == stint])
    pieces: dict[str, list[Piece]] = {"caller": [], "agent": []}
    store = PayloadStore(folder.parent.parent, folder.parent.name)
    sound: tuple[PayloadClass, ...] = ("audio_raw",)
    reading = store.read(folder.name, classes=sound)
    for entry in reading.entries:
        details: Mapping[str, Any] = entry.details
        if entry.action != "allow" or details.get("stint") not in origins:
            continue
        pcm = np.frombuffer(entry.data, dtype="<i2").astype(np.int16)
        at_us = entry.at_us - origins[str(details["stint"])]
        pieces[str(details["party"])].append(Piece(at_us, pcm, int(details.get("cleared", 0))))
    if not pieces["caller"] and not pieces["agent"]:
        raise EvidenceError(
            f"{folder}: no sound was kept of this call",
            hint="record at L2 and allow audio_raw; what was not kept cannot be heard again",
        )
    return CallAudio(assemble(pieces["caller"], INPUT_RATE_HZ), assemble(pieces["agent"], OUTPUT_RATE_HZ))


def _origins(stints: Iterable[Stint]) -> dict[str, int]:
    """Return for each stint what to take off its clock: clocks of two hosts share only the wall clock."""
    headers = [stint.header for stint in stints]
    first_ms = min((int(header["created_wall_ms"]) for header in headers), default=0)
    return {
        str(header["stint"]): int(header["created_us"]) - 1000 * (int(header["created_wall_ms"]) - first_ms)
        for header in headers
    }


def assemble(pieces: Iterable[Piece], rate_hz: int) -> Pcm:
    """Lay pieces on a time axis: gapless where they follow each other, silent where nothing came.

    Args:
        pieces: in any order.
        rate_hz: samples a second.
    """
    laid: list[Pcm] = []
    length = 0
    for piece in sorted(pieces, key=lambda piece: piece.at_us):
        if piece.cleared:
            length -= _take_back(laid, piece.cleared)
        start = piece.at_us * rate_hz // 1_000_000
        gap = start - length
        if len(piece.pcm) and gap > JITTER_US * rate_hz // 1_000_000:
            laid.append(np.zeros(gap, dtype=np.int16))
            length += gap
        laid.append(piece.pcm)
        length += len(piece.pcm)
    return np.concatenate(laid) if laid else np.zeros(0, dtype=np.int16)


def _take_back(laid: list[Pcm], samples: int) -> int:
    """Drop the last ``samples`` of what was laid; returns how many there were."""
    left = samples
    while left and laid:
        last = laid.pop()
        if len(last) > left:
            laid.append(last[: len(last) - left])
            return samples
        left -= len(last)
    return samples - left


def write_wav(audio: CallAudio, path: Path) -> float:
    """Write a stereo WAV file at 24 kHz, the caller on the left; returns its length in seconds.

    Raises:
        EvidenceError: the file cannot be written.
    """
    # Whole numbers would be dithered at random, and equal calls would not give equal files.
    caller = np.rint(soxr.resample(audio.caller.astype(np.float32), INPUT_RATE_HZ, OUTPUT_RATE_HZ))
    length = max(len(caller), len(audio.agent))
    both = np.zeros((length, 2), dtype=np.int16)
    both[: len(caller), 0] = np.clip(caller, -32768, 32767)
    both[: len(audio.agent), 1] = audio.agent
    try:
        soundfile.write(str(path), both, OUTPUT_RATE_HZ, subtype="PCM_16", format="WAV")
    except (OSError, soundfile.SoundFileError) as error:
        raise EvidenceError(
            f"{path}: cannot be written", hint="check that its folder exists and is writable"
        ) from error
    return length / OUTPUT_RATE_HZ
