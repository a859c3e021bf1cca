"""Speech by espeak-ng, in a process of its own that all sessions of a runtime share.

The library is GPL-3.0-or-later and is loaded by ``espeak_process.py`` alone, which is run as a program;
this file only talks to it over pipes. The process speaks one request at a time. It is some 500 times
faster than real time (a sentence of 4 s in 9 ms), so that a request is read to its end at once and never
waits for a listener; requests are cut to ``LONGEST_REQUEST`` characters, which bounds what one holds.

Measured: first chunk 6-9 ms after the request on a quiet machine, silence before speech cut from 13-15 ms to
5 ms, 17 MB in all, ready 47 ms after its start.
"""

from __future__ import annotations

import asyncio
import json
import re
import weakref
from typing import TYPE_CHECKING, Final

import numpy as np
import soxr

from rspp.contracts.errors import ConfigurationError, ProviderError
from rspp.contracts.media import OUTPUT_RATE_HZ, Pcm, SpeechChunk, WordMark
from rspp.providers.espeak_pipe import Message, SpeechProcess

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rspp.contracts.ports import Offloader

LONGEST_REQUEST: Final = 400
"""Characters per request: about 50 s of speech and 2 MB at the slowest rate."""
MOST_MESSAGES: Final = 512
SENTENCE_PAUSE_MS: Final = 150
"""Silence after a sentence; espeak-ng itself puts none after the last one of a request."""


class SpeechEngine:
    """The shared process: hands requests to it one by one, replaces it when it dies or hangs."""

    def __init__(self) -> None:
        self.users = 0
        self._process: SpeechProcess | None = None
        self._rate_hz = 0
        self._turn = asyncio.Lock()
        self._requests: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int:
        """Id of the running process, 0 when none runs."""
        return self._process.pid if self._process is not None else 0

    @property
    def rate_hz(self) -> int:
        """Sample rate of the audio in requests; known once a process has run."""
        return self._rate_hz

    async def prepare(self, offloader: Offloader) -> None:
        """Start the process unless it runs.

        Raises:
            ProviderError: it cannot be started.
        """
        async with self._turn:
            await self._ensure(offloader)

    async def _ensure(self, offloader: Offloader) -> SpeechProcess:
        if self._process is not None:
            return self._process
        try:
            process = SpeechProcess()
        except OSError as error:
            raise ProviderError(f"espeak: the speech process cannot be started ({error})") from error
        try:
            kind, payload = await offloader.run(process.read)
        except BaseException:
            process.close()
            raise
        if kind != b"R":
            process.close()
            raise ProviderError(f"espeak: {payload.decode(errors='replace')}")
        self._rate_hz = int(payload)
        self._process = process
        return process

    def request(self, text: str, voice: str, rate: int, offloader: Offloader) -> SpeechRequest:
        """Begin to speak ``text``; the answer is read in the background."""
        request = SpeechRequest(text, voice, rate)
        task = asyncio.create_task(self._perform(request, offloader), name="espeak-request")
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        return request

    async def _perform(self, request: SpeechRequest, offloader: Offloader) -> None:
        async with self._turn:
            if request.abandoned:
                return
            try:
                process = await self._ensure(offloader)
                process.write(request.document())
                kind = b""
                while kind not in {b"E", b"X"}:
                    kind, payload = await offloader.run(process.read)
                    request.deliver((kind, payload))
            except ProviderError as error:
                self._discard()
                request.fail(error)
            except BaseException:
                self._discard()
                request.fail(ProviderError("espeak: the request was cancelled", outcome="cancelled"))
                raise

    def _discard(self) -> None:
        """Drop a process whose pipe no longer stands between two messages."""
        if self._process is not None:
            self._process.close()
            self._process = None

    async def close(self) -> None:
        """End the process and what it was saying."""
        self._discard()
        await asyncio.gather(*self._requests, return_exceptions=True)


class SpeechRequest:
    """One utterance under way: what the process said of it and was not fetched yet."""

    def __init__(self, text: str, voice: str, rate: int) -> None:
        self.abandoned = False
        self._text, self._voice, self._rate = text, voice, rate
        self._messages: asyncio.Queue[Message | ProviderError] = asyncio.Queue(maxsize=MOST_MESSAGES)

    def document(self) -> dict[str, object]:
        """The request as the process understands it."""
        return {"text": self._text, "voice": self._voice, "rate": self._rate}

    def deliver(self, message: Message) -> None:
        """Take one message of the process.

        Raises:
            ProviderError: there are more than a request of ``LONGEST_REQUEST`` characters can have.
        """
        if self.abandoned:
            return
        if self._messages.qsize() >= MOST_MESSAGES - 1:
            raise ProviderError("espeak: the speech of one request is too long", outcome="overload")
        self._messages.put_nowait(message)

    def fail(self, error: ProviderError) -> None:
        """End the request with an error; one place in the queue is kept for it."""
        if not self.abandoned:
            self._messages.put_nowait(error)

    async def next(self) -> Message:
        """Return the next message.

        Raises:
            ProviderError: the request failed.
        """
        message = await self._messages.get()
        if isinstance(message, ProviderError):
            raise message
        if message[0] == b"X":
            raise ProviderError(f"espeak: {message[1].decode(errors='replace')}", outcome="blocked")
        return message


class _Marks:
    """Turns the library's text positions into marks of the words as written."""

    def __init__(self, text: str) -> None:
        self._words: list[tuple[int, int, str]] = []
        start = -1
        for found in re.finditer(r"\S+", text):
            # The library counts a dash between blanks to the word behind it.
            start = found.start() if start < 0 else start
            self._words.append((start, found.end(), found.group()))
            if any(letter.isalnum() for letter in found.group()):
                start = -1
        self._next = 0

    def until(self, position: int, start: int) -> list[WordMark]:
        """Marks of the word at ``position`` and of those before it that were passed over."""
        marks: list[WordMark] = []
        while self._next < len(self._words) and self._words[self._next][0] <= position:
            marks.append(WordMark(text=self._words[self._next][2], start=start))
            self._next += 1
        return marks


_engines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, SpeechEngine] = weakref.WeakKeyDictionary()


class EspeakSynthesizer:
    """Speaks one session's segments; open it with ``open_espeak``."""

    def __init__(self, engine: SpeechEngine, voice: str, words_per_minute: int, offloader: Offloader) -> None:
        self._engine = engine
        self._voice = voice
        self._rate = words_per_minute
        self._offloader = offloader
        self._closed = False

    def read_by(self, offloader: Offloader) -> None:
        """Let later blocking reads run on ``offloader``."""
        self._offloader = offloader

    async def synthesize(self, text: str) -> AsyncGenerator[SpeechChunk, None]:
        """Stream the speech of one segment at 24 kHz, with a mark for each word as written.

        Raises:
            ProviderError: the process failed; the next call starts it anew.
        """
        spoken = 0
        for part in split_text(text):
            marks = _Marks(part)
            # On integers soxr dithers at random, and equal texts would give unequal samples.
            resampler = soxr.ResampleStream(self._engine.rate_hz, OUTPUT_RATE_HZ, 1, dtype="float32")
            request = self._engine.request(part, self._voice, self._rate, self._offloader)
            words: list[WordMark] = []
            start = spoken
            try:
                while True:
                    kind, payload = await request.next()
                    if kind == b"W":
                        for position, sample in json.loads(payload):
                            at = start + round(sample * OUTPUT_RATE_HZ / self._engine.rate_hz)
                            words += marks.until(position, at)
                        continue
                    ended = kind == b"E"
                    made = np.frombuffer(payload, dtype="<i2").astype(np.float32)
                    exact = resampler.resample_chunk(made, last=ended)
                    pcm: Pcm = np.clip(np.rint(exact), -32768, 32767).astype(np.int16)
                    if ended:
                        words += marks.until(len(part), start + max(0, spoken - start + len(pcm) - 1))
                        pause = SENTENCE_PAUSE_MS if part.endswith((".", "!", "?")) else 0
                        pcm = np.concatenate((pcm, np.zeros(pause * OUTPUT_RATE_HZ // 1000, np.int16)))
                    if len(pcm):
                        yield SpeechChunk(pcm=pcm, words=tuple(words))
                        words = []
                        spoken += len(pcm)
                    if ended:
                        break
            finally:
                request.abandoned = True

    async def close(self) -> None:
        """Leave the shared process; the last one to leave ends it."""
        if self._closed:
            return
        self._closed = True
        self._engine.users -= 1
        if self._engine.users == 0:
            _engines.pop(asyncio.get_running_loop(), None)
            await self._engine.close()


def split_text(text: str) -> list[str]:
    """Cut a text into requests of at most ``LONGEST_REQUEST`` characters, at sentence or word ends.

    Blanks and control characters become single blanks.
    """
    rest = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    parts: list[str] = []
    while len(rest) > LONGEST_REQUEST:
        head = rest[:LONGEST_REQUEST]
        cut = max(head.rfind(stop) + 1 for stop in (". ", "! ", "? "))
        if cut <= 0:
            cut = head.rfind(" ")
        if cut <= 0:
            cut = LONGEST_REQUEST
        parts.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    if any(letter.isalnum() for letter in rest):
        parts.append(rest)
    return parts


async def open_espeak(
    voice: str, words_per_minute: int, offloader: Offloader, work: Offloader | None = None
) -> EspeakSynthesizer:
    """Join the speech process of this event loop, starting it when it does not run.

    Args:
        voice: espeak-ng voice, such as ``en-us+f3``.
        words_per_minute: speaking rate.
        offloader: where the process is awaited and tried.
        work: where its speech is read later; ``offloader`` when left out.

    Raises:
        ConfigurationError: the process cannot be started, or does not know the voice.
    """
    engine = _engines.setdefault(asyncio.get_running_loop(), SpeechEngine())
    engine.users += 1
    synthesizer = EspeakSynthesizer(engine, voice, words_per_minute, offloader)
    try:
        await engine.prepare(offloader)
        async for _ in synthesizer.synthesize("a"):
            continue
    except ProviderError as error:
        await synthesizer.close()
        raise ConfigurationError(
            f"tts.voice: {error.message} (voice '{voice}')",
            hint="use a voice of espeak-ng, such as en-us, en-us+f3 or de; "
            "if it cannot be started: pip install --force-reinstall espeakng-loader",
        ) from error
    except BaseException:
        await synthesizer.close()
        raise
    synthesizer.read_by(work or offloader)
    return synthesizer
