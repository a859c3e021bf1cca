"""The providers for OpenAI-compatible servers against a real local server that speaks the protocol."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pytest
import pytest_asyncio
from aiohttp import web

from rspp.contracts.errors import ProviderError
from rspp.contracts.ports import Message
from rspp.pipeline.spec import OpenAiLlm, OpenAiStt, OpenAiTts
from rspp.providers.openai_llm import OpenAiResponder
from rspp.providers.openai_stt import LONGEST_S, OpenAiRecognition
from rspp.providers.openai_tts import OpenAiSynthesizer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

Opened = TypeVar("Opened", OpenAiResponder, OpenAiSynthesizer, OpenAiRecognition)
KEY = "sk-secret-1234"


class FakeOpenAiServer:
    """Speaks the three calls; each test sets what it answers."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.error = "model overloaded, key sk-secret-1234"
        self.words = ["Good ", "day", "."]
        self.stop_reason = "stop"
        self.audio = [b"\x01\x00" * 1201, b"\x02"]
        self.transcript: object = "Where are you?"
        self.hang_after = -1
        self.break_after = -1
        self.drip = False
        self.raw: bytes | None = None
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.left = asyncio.Event()
        self._release = asyncio.Event()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[FakeOpenAiServer]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/audio/speech", self._speech)
        app.router.add_post("/v1/audio/transcriptions", self._transcription)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/v1"
        try:
            yield self
        finally:
            self._release.set()
            await runner.cleanup()

    def _refusal(self, request: web.Request) -> web.Response | None:
        self.headers.append(dict(request.headers))
        if self.status != 200:
            return web.json_response({"error": {"message": self.error}}, status=self.status)
        if self.raw is not None:
            return web.Response(body=self.raw, content_type="application/json")
        return None

    async def _stream(self, request: web.Request, pieces: list[bytes]) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        try:
            await response.prepare(request)
            while self.drip:
                await response.write(b": still here\n\n")
                await self._pause()
            for index, piece in enumerate(pieces):
                if index == self.hang_after:
                    await self._until_left(request)
                if index == self.break_after:
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                await response.write(piece)
            await response.write_eof()
        except (ConnectionError, asyncio.CancelledError):
            self.left.set()
            raise
        return response

    async def _until_left(self, request: web.Request) -> None:
        while request.transport is not None and not request.transport.is_closing():
            if await self._pause():
                return
        self.left.set()

    async def _pause(self) -> bool:
        """Wait a moment; true once the test is over."""
        try:
            return await asyncio.wait_for(self._release.wait(), 0.01)
        except TimeoutError:
            return False

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        if (refusal := self._refusal(request)) is not None:
            return refusal
        deltas = [{"delta": {"content": word}, "index": 0} for word in self.words]
        deltas.append({"delta": {}, "index": 0, "finish_reason": self.stop_reason})
        documents = [
            {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [delta]}
            for delta in deltas
        ]
        pieces = [f"data: {json.dumps(document)}\n\n".encode() for document in documents]
        return await self._stream(request, [*pieces, b"data: [DONE]\n\n"])

    async def _speech(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        refusal = self._refusal(request)
        return refusal if refusal is not None else await self._stream(request, self.audio)

    async def _transcription(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        upload = form["file"]
        assert isinstance(upload, web.FileField)
        self.requests.append(
            {**{name: form[name] for name in form if name != "file"}, "wav": upload.file.read()}
        )
        if (refusal := self._refusal(request)) is not None:
            return refusal
        if self.hang_after == 0:
            await self._until_left(request)
        return web.json_response({"text": self.transcript})


@pytest_asyncio.fixture
async def server() -> AsyncIterator[FakeOpenAiServer]:
    async with FakeOpenAiServer().run() as running:
        yield running


@asynccontextmanager
async def opened(provider: Opened) -> AsyncIterator[Opened]:
    try:
        yield provider
    finally:
        await provider.close()


def llm(server: FakeOpenAiServer, **fields: Any) -> OpenAiResponder:
    return OpenAiResponder(OpenAiLlm(base_url=server.url, model="m", **fields), KEY)


def tts(server: FakeOpenAiServer, **fields: Any) -> OpenAiSynthesizer:
    return OpenAiSynthesizer(OpenAiTts(base_url=server.url, model="m", **fields), KEY)


def stt(server: FakeOpenAiServer, **fields: Any) -> OpenAiRecognition:
    return OpenAiRecognition(OpenAiStt(base_url=server.url, model="m", **fields), KEY)


HISTORY = (Message("user", "hello"), Message("assistant", "Good"), Message("user", "where are you"))


async def reply(responder: OpenAiResponder, history: Sequence[Message] = HISTORY) -> list[str]:
    return [delta.text async for delta in responder.respond(history)]


async def call(modality: str, server: FakeOpenAiServer, **fields: Any) -> None:
    """One call of a modality, to its end."""
    if modality == "llm":
        async with opened(llm(server, **fields)) as responder:
            await reply(responder)
    elif modality == "tts":
        async with opened(tts(server, **fields)) as synthesizer:
            _ = [chunk async for chunk in synthesizer.synthesize("Hello.")]
    else:
        async with opened(stt(server, **fields)) as recognition:
            await recognition.begin()
            await recognition.accept(np.zeros(16_000, np.int16))
            await recognition.conclude()


async def test_a_reply_streams_with_the_history_and_the_instructions(server: FakeOpenAiServer) -> None:
    async with opened(llm(server, system="Be kind.", temperature=0.5, max_tokens=7)) as responder:
        assert await reply(responder) == ["Good ", "day", "."]
    request = server.requests[0]
    assert request["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "Good"},
        {"role": "user", "content": "where are you"},
    ]
    assert (request["temperature"], request["max_tokens"], request["stream"]) == (0.5, 7, True)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


async def test_without_a_key_none_is_sent(server: FakeOpenAiServer) -> None:
    responder = OpenAiResponder(OpenAiLlm(base_url=server.url, model="m", api_key_env=""), "")
    async with opened(responder):
        await reply(responder)
    assert "Authorization" not in server.headers[0]


async def test_ids_of_an_openai_account_are_sent_to_nobody_else(
    server: FakeOpenAiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-1")
    async with opened(llm(server)) as responder:
        await reply(responder)
    assert not {"openai-organization", "openai-project"} & {name.lower() for name in server.headers[0]}


async def test_closing_a_reply_ends_the_request_at_the_server(server: FakeOpenAiServer) -> None:
    server.hang_after = 1
    async with opened(llm(server)) as responder:
        async with aclosing(responder.respond(HISTORY)) as deltas:
            assert (await anext(deltas)).text == "Good "
        await asyncio.wait_for(server.left.wait(), 5)


async def test_closing_speech_ends_the_request_at_the_server(server: FakeOpenAiServer) -> None:
    server.hang_after = 1
    async with opened(tts(server)) as synthesizer:
        async with aclosing(synthesizer.synthesize("Hello.")) as chunks:
            await anext(chunks)
        await asyncio.wait_for(server.left.wait(), 5)


async def test_an_empty_reply_is_a_failure(server: FakeOpenAiServer) -> None:
    server.words = []
    async with opened(llm(server)) as responder:
        with pytest.raises(ProviderError, match="sent an empty reply") as caught:
            await reply(responder)
    assert caught.value.outcome == "infrastructure_failure"


async def test_a_reply_held_back_by_a_filter_is_blocked(server: FakeOpenAiServer) -> None:
    server.words, server.stop_reason = [], "content_filter"
    async with opened(llm(server)) as responder:
        with pytest.raises(ProviderError) as caught:
            await reply(responder)
    assert (caught.value.outcome, caught.value.reason) == ("blocked", "provider_auth_or_policy_block")


async def test_speech_streams_as_pcm_over_odd_chunk_borders(server: FakeOpenAiServer) -> None:
    server.audio = [b"\x01\x00\x02", b"\x00", b"\x03\x00" * 100]
    async with opened(tts(server, voice="bella")) as synthesizer:
        pcm = np.concatenate([chunk.pcm async for chunk in synthesizer.synthesize("Hello.")])
    assert pcm.dtype == np.int16
    assert pcm.tolist() == [1, 2, *[3] * 100]
    request = server.requests[0]
    assert (request["input"], request["voice"], request["response_format"]) == ("Hello.", "bella", "pcm")


@pytest.mark.parametrize("audio", [b"RIFF1234WAVE", b"ID3 mp3", b'{"error": 1}'])
async def test_speech_that_is_no_plain_pcm_is_refused(server: FakeOpenAiServer, audio: bytes) -> None:
    server.audio = [audio]
    async with opened(tts(server)) as synthesizer:
        with pytest.raises(ProviderError, match="plain PCM") as caught:
            _ = [chunk async for chunk in synthesizer.synthesize("Hello.")]
    assert caught.value.outcome == "blocked"


async def test_speech_without_audio_is_a_failure(server: FakeOpenAiServer) -> None:
    server.audio = [b"\x01"]
    async with opened(tts(server)) as synthesizer:
        with pytest.raises(ProviderError, match="sent no audio"):
            _ = [chunk async for chunk in synthesizer.synthesize("Hello.")]


@pytest.mark.parametrize(
    ("transcript", "text", "complete", "backchannel"),
    [
        ("Where are you?", "where are you", True, False),
        ("I would like to", "i would like to", False, False),
        ('He said: "Stop!"', "he said stop", True, False),
        ("Uh-huh.", "uh huh", True, True),
        ("Mm-hmm", "mm hmm", False, True),
        ("Okay. Where are you?", "okay where are you", True, False),
        ("", "", False, False),
    ],
)
async def test_a_transcript_becomes_a_hypothesis(
    server: FakeOpenAiServer, transcript: str, text: str, *, complete: bool, backchannel: bool
) -> None:
    server.transcript = transcript
    async with opened(stt(server)) as recognition:
        await recognition.begin()
        assert await recognition.accept(np.zeros(8_000, np.int16)) is None
        heard = await recognition.conclude()
    assert (heard.text, heard.complete, heard.backchannel) == (text, complete, backchannel)


async def test_an_utterance_is_posted_as_a_wav_and_a_new_one_starts_empty(server: FakeOpenAiServer) -> None:
    tone = (np.arange(3_200) % 100).astype(np.int16)
    async with opened(stt(server, language="de")) as recognition:
        await recognition.begin()
        await recognition.accept(np.ones(3_200, np.int16))
        await recognition.begin()
        await recognition.accept(tone[:1_600])
        await recognition.accept(tone[1_600:])
        await recognition.conclude()
    request = server.requests[0]
    assert request["language"] == "de"
    with wave.open(io.BytesIO(request["wav"])) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        assert np.array_equal(np.frombuffer(file.readframes(9_999), np.int16), tone)


async def test_too_short_an_utterance_is_not_posted(server: FakeOpenAiServer) -> None:
    async with opened(stt(server)) as recognition:
        await recognition.begin()
        await recognition.accept(np.zeros(800, np.int16))
        assert (await recognition.conclude()).text == ""
    assert server.requests == []


async def test_an_utterance_is_bounded(server: FakeOpenAiServer) -> None:
    async with opened(stt(server)) as recognition:
        await recognition.begin()
        await recognition.accept(np.zeros(LONGEST_S * 16_000, np.int16))
        with pytest.raises(ProviderError) as caught:
            await recognition.accept(np.zeros(1, np.int16))
    assert caught.value.outcome == "overload"


async def test_a_transcription_without_text_is_a_failure(server: FakeOpenAiServer) -> None:
    server.transcript = None
    with pytest.raises(ProviderError, match="without text"):
        await call("stt", server)


@pytest.mark.parametrize("modality", ["llm", "tts", "stt"])
@pytest.mark.parametrize(
    ("status", "outcome", "retryable", "reason"),
    [
        (429, "overload", True, "provider_overload"),
        (408, "timeout", True, "provider_timeout"),
        (504, "timeout", True, "provider_timeout"),
        (401, "blocked", False, "provider_auth_or_policy_block"),
        (403, "blocked", False, "provider_auth_or_policy_block"),
        (404, "blocked", False, "provider_client_error"),
        (500, "infrastructure_failure", True, "provider_server_error"),
        (503, "infrastructure_failure", True, "provider_server_error"),
    ],
)
async def test_failures_follow_the_table_and_never_show_the_key(
    server: FakeOpenAiServer, modality: str, status: int, outcome: str, reason: str, *, retryable: bool
) -> None:
    server.status = status
    with pytest.raises(ProviderError) as caught:
        await call(modality, server)
    error = caught.value
    assert (error.outcome, error.retryable, error.reason) == (outcome, retryable, reason)
    assert error.message.startswith(f"{modality} at 127.0.0.1:")
    assert KEY not in error.message + error.hint
    assert len(server.requests) == 1, "a failed call must not be repeated below the session"


@pytest.mark.parametrize(("modality", "after"), [("llm", 0), ("llm", 1), ("tts", 0), ("tts", 1), ("stt", 0)])
async def test_a_server_that_hangs_times_out(server: FakeOpenAiServer, modality: str, after: int) -> None:
    server.hang_after = after
    with pytest.raises(ProviderError) as caught:
        await call(modality, server, timeout_ms=200)
    assert (caught.value.outcome, caught.value.reason) == ("timeout", "provider_timeout")


async def test_signs_of_life_without_words_do_not_put_off_the_timeout(server: FakeOpenAiServer) -> None:
    server.drip = True
    with pytest.raises(ProviderError) as caught:
        await call("llm", server, timeout_ms=200)
    assert caught.value.outcome == "timeout"


@pytest.mark.parametrize("modality", ["llm", "tts"])
async def test_a_connection_that_breaks_in_mid_stream_is_a_transport_error(
    server: FakeOpenAiServer, modality: str
) -> None:
    server.break_after = 1
    with pytest.raises(ProviderError) as caught:
        await call(modality, server)
    assert caught.value.reason == "provider_transport_error"


@pytest.mark.parametrize("modality", ["llm", "tts", "stt"])
async def test_a_server_that_is_not_there_is_a_transport_error(modality: str) -> None:
    fake = FakeOpenAiServer()
    fake.url = "http://127.0.0.1:9/v1"
    with pytest.raises(ProviderError, match="cannot be reached") as caught:
        await call(modality, fake)
    assert (caught.value.outcome, caught.value.reason) == (
        "infrastructure_failure",
        "provider_transport_error",
    )


async def test_an_error_in_mid_stream_is_a_failure(server: FakeOpenAiServer) -> None:
    server.raw = b'data: {"error": {"message": "out of memory"}}\n\n'
    with pytest.raises(ProviderError, match="out of memory") as caught:
        await call("llm", server)
    assert caught.value.reason == "provider_server_error"


@pytest.mark.parametrize("raw", [b"data: {broken\n\n", b'data: {"choices": 3}\n\n'])
async def test_an_answer_that_is_not_understood_is_a_failure(server: FakeOpenAiServer, raw: bytes) -> None:
    server.raw = raw
    with pytest.raises(ProviderError) as caught:
        await call("llm", server)
    assert caught.value.outcome == "infrastructure_failure"
