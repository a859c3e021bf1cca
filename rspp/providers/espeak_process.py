"""The speech process: a program of its own around the espeak-ng library.

Licence: espeak-ng is GPL-3.0-or-later. This is the only file that touches it. The program is run on
its own, talks over pipes, and imports nothing of rspp; the rest of RSPP never loads the library.

Two ways to run it::

    python -m rspp.providers.espeak_process --text "Good morning" --wav morning.wav
    python -m rspp.providers.espeak_process --serve

Serving, every message in either direction is one byte of kind, four bytes of length (little endian)
and the payload. A request on stdin is ``S`` with a JSON object ``{text, voice, rate}``. Answers on stdout:
``R`` once at the start with the sample rate in decimal; for each request any number of ``A`` (mono int16
samples), ``W`` (JSON list of ``[text position, sample]``, positions counted in characters from 0) and at
last one of ``E`` (it was spoken) or ``X`` (a message: it failed). The program ends when stdin does, and
by a signal of the kernel when its parent dies.
"""

from __future__ import annotations

import argparse
import array
import ctypes
import json
import os
import signal
import struct
import sys
import wave
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AUDIO_SYNCHRONOUS = 2
CHARACTERS_UTF8 = 1
PARAMETER_RATE = 1
EVENT_END_OF_LIST = 0
EVENT_WORD = 1
BUFFER_MS = 40
DONT_EXIT = 0x8000
PR_SET_PDEATHSIG = 1

SILENT_BELOW = 64
"""Amplitude below which the samples before the first sound count as silence (-54 dBFS)."""
LEAD_MS = 5
"""Silence kept before the first sound, so that its attack is not cut."""
FRAME_MS = (40, 40, 80, 160, 240)
"""Audio per message: short at first, so that the answer starts at once, then longer for fewer wake-ups."""
MOST_PAYLOAD = 1 << 20


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Engine:
    """The espeak-ng library of this process; one utterance at a time.

    Raises:
        RuntimeError: the library or its data cannot be loaded.
    """

    def __init__(self) -> None:
        import espeakng_loader

        try:
            self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise RuntimeError(f"the espeak-ng library cannot be loaded: {error}") from error
        rate = self._library.espeak_Initialize(
            AUDIO_SYNCHRONOUS, BUFFER_MS, espeakng_loader.get_data_path().encode(), DONT_EXIT
        )
        if rate <= 0:
            raise RuntimeError("espeak-ng does not find its data")
        self.sample_rate: int = rate
        self._voice = ""
        self._rate = 0
        self._sink: Callable[[bytes, list[tuple[int, int]]], bool] | None = None
        self._callback = _CALLBACK(self._on_audio)
        self._library.espeak_SetSynthCallback(self._callback)

    def _on_audio(self, samples: Any, count: int, events: Any) -> int:  # noqa: ANN401
        words: list[tuple[int, int]] = []
        index = 0
        while events[index].type != EVENT_END_OF_LIST:
            if events[index].type == EVENT_WORD:
                words.append((events[index].text_position - 1, events[index].sample))
            index += 1
        data = ctypes.string_at(samples, count * 2) if samples and count > 0 else b""
        return 0 if self._sink is None or self._sink(data, words) else 1

    def speak(
        self,
        text: str,
        voice: str,
        words_per_minute: int,
        sink: Callable[[bytes, list[tuple[int, int]]], bool],
    ) -> None:
        """Synthesise ``text``; ``sink`` takes audio and word positions and returns whether to go on.

        Raises:
            RuntimeError: the voice is unknown, or the library refuses the text.
        """
        if voice != self._voice:
            if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise RuntimeError(f"unknown voice '{voice}'")
            self._voice, self._rate = voice, 0
        if words_per_minute != self._rate:
            self._library.espeak_SetParameter(PARAMETER_RATE, words_per_minute, 0)
            self._rate = words_per_minute
        encoded = text.encode() + b"\0"
        self._sink = sink
        try:
            status = self._library.espeak_Synth(
                encoded, ctypes.c_size_t(len(encoded)), 0, 0, 0, CHARACTERS_UTF8, None, None
            )
        finally:
            self._sink = None
        if status != 0:
            raise RuntimeError(f"espeak-ng refused the text (status {status})")


class Shaper:
    """Cuts the silence before the first sound and collects audio into messages of growing length."""

    def __init__(self, sample_rate: int, emit: Callable[[bytes, list[tuple[int, int]]], None]) -> None:
        self._sample_rate = sample_rate
        self._emit = emit
        self._audio = bytearray()
        self._words: list[tuple[int, int]] = []
        self._cut = -1
        self._seen = 0
        self._messages = 0

    def feed(self, data: bytes, words: list[tuple[int, int]]) -> None:
        """Take what the library produced; samples of words count from its own first sample."""
        self._words.extend(words)
        if self._cut < 0:
            samples = array.array("h", data)
            lead = LEAD_MS * self._sample_rate // 1000
            first = next((i for i, value in enumerate(samples) if abs(value) >= SILENT_BELOW), -1)
            if first < 0:
                self._seen += len(samples)
                return
            skipped = max(0, first - lead)
            self._cut = self._seen + skipped
            data = data[skipped * 2 :]
        self._audio += data
        while True:
            wanted = FRAME_MS[min(self._messages, len(FRAME_MS) - 1)] * self._sample_rate // 1000 * 2
            if len(self._audio) < wanted:
                return
            self._send(wanted)

    def finish(self) -> None:
        """Emit what is left."""
        if self._audio or self._words:
            self._send(len(self._audio))

    def _send(self, size: int) -> None:
        words = [(position, max(0, sample - self._cut)) for position, sample in self._words]
        self._words.clear()
        self._emit(bytes(self._audio[:size]), words)
        del self._audio[:size]
        self._messages += 1


def send(kind: bytes, payload: bytes) -> None:
    """Write one message to stdout; the program ends when nobody reads it any more."""
    data = memoryview(kind + struct.pack("<I", len(payload)) + payload)
    try:
        while data:
            data = data[os.write(1, data) :]
    except BrokenPipeError:
        os._exit(0)


class Server:
    """Answers requests from stdin, one by one, until it ends.

    The library keeps state from one utterance to the next: the same text comes out up to 10 ms shorter or
    longer. So each request is spoken by a fork of the untouched process, and the same request gives the
    same samples whatever was said before; it costs about 2 ms.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self) -> None:
        """Serve; returns when stdin has ended or a request crashed the library."""
        send(b"R", str(self._engine.sample_rate).encode())
        while len(head := sys.stdin.buffer.read(5)) == 5:
            size = struct.unpack("<I", head[1:])[0]
            if head[:1] != b"S" or size > MOST_PAYLOAD:
                return
            request = json.loads(sys.stdin.buffer.read(size))
            server = os.getpid()
            child = os.fork()
            if child == 0:
                die_with_parent(server)
                self._answer(request)
                os._exit(0)
            if os.waitpid(child, 0)[1] != 0:
                return

    def _answer(self, request: dict[str, Any]) -> None:
        shaper = Shaper(self._engine.sample_rate, self._emit)

        def sink(data: bytes, words: list[tuple[int, int]]) -> bool:
            shaper.feed(data, words)
            return True

        try:
            self._engine.speak(str(request["text"]), str(request["voice"]), int(request["rate"]), sink)
        except RuntimeError as error:
            send(b"X", str(error).encode())
            return
        shaper.finish()
        send(b"E", b"")

    def _emit(self, audio: bytes, words: list[tuple[int, int]]) -> None:
        if words:
            send(b"W", json.dumps(words).encode())
        if audio:
            send(b"A", audio)


def die_with_parent(parent: int) -> None:
    """Let the kernel end this process when ``parent`` dies, even if it died a moment ago."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def write_wav(engine: Engine, text: str, voice: str, words_per_minute: int, path: Path, rate_hz: int) -> None:
    """Speak ``text`` into a mono 16-bit WAV file, without the silence that espeak-ng puts in front.

    Args:
        engine: the loaded library.
        text: what to say.
        voice: espeak-ng voice.
        words_per_minute: speaking rate.
        path: the file; replaced in one step.
        rate_hz: sample rate of the file; 0 keeps the library's own.
    """
    audio = bytearray()
    shaper = Shaper(engine.sample_rate, lambda data, _words: audio.extend(data))

    def sink(data: bytes, words: list[tuple[int, int]]) -> bool:
        shaper.feed(data, words)
        return True

    engine.speak(text, voice, words_per_minute, sink)
    shaper.finish()
    data = bytes(audio)
    if rate_hz and rate_hz != engine.sample_rate:
        import numpy
        import soxr

        data = soxr.resample(numpy.frombuffer(data, dtype="<i2"), engine.sample_rate, rate_hz).tobytes()
    partial = path.with_name(path.name + ".part")
    with wave.open(str(partial), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz or engine.sample_rate)
        file.writeframes(data)
    partial.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(prog="espeak_process", description="Speech by espeak-ng.")
    parser.add_argument("--serve", action="store_true", help="answer requests on stdin")
    parser.add_argument("--parent", type=int, default=0, help="process to die with")
    parser.add_argument("--text", default="", help="what to say")
    parser.add_argument("--wav", type=Path, help="file to write")
    parser.add_argument("--voice", default="en-us", help="espeak-ng voice, such as en-us+f3")
    parser.add_argument("--rate", type=int, default=165, help="words per minute")
    parser.add_argument("--rate-hz", type=int, default=0, help="sample rate of the file (default 22050)")
    options = parser.parse_args(arguments)
    if not options.serve and (options.wav is None or not options.text):
        parser.error("give --serve, or --text and --wav")
    if options.serve:
        # A service manager signals the whole group; the voice lasts until the runtime has drained.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        die_with_parent(options.parent or os.getppid())
    try:
        engine = Engine()
        if options.serve:
            Server(engine).run()
        else:
            write_wav(engine, options.text, options.voice, options.rate, options.wav, options.rate_hz)
    except (RuntimeError, OSError) as error:
        if options.serve:
            send(b"X", str(error).encode())
        print(f"espeak_process: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
