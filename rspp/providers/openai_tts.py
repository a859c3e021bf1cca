"""Speech by any server with ``/v1/audio/speech``, as streamed 24 kHz PCM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from rspp.contracts.media import SpeechChunk
from rspp.providers.openai_endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rspp.pipeline.spec import OpenAiTts

CONTAINERS: Final = (b"RIFF", b"ID3", b"OggS", b"fLaC", b"\xff\xfb", b"\xff\xf3", b"{")


class OpenAiSynthesizer:
    """Speaks by a speech model.

    Args:
        spec: server, model and voice.
        api_key: empty sends none.
    """

    def __init__(self, spec: OpenAiTts, api_key: str) -> None:
        self._spec = spec
        self._endpoint = Endpoint("tts", spec, api_key)

    async def synthesize(self, text: str) -> AsyncGenerator[SpeechChunk, None]:
        """Stream the speech of one segment; closing the iterator ends the request at the server.

        The protocol tells nothing of words, so the chunks carry no marks.

        Raises:
            ProviderError: refused, unreachable, silent for ``timeout_ms``, or no plain PCM.
        """
        spec, endpoint = self._spec, self._endpoint
        request = endpoint.client.audio.speech.with_streaming_response.create(
            model=spec.model,
            voice=spec.voice,
            input=text,
            response_format="pcm",
            extra_headers=endpoint.headers,
        )
        with endpoint.failures():
            response = await endpoint.within(request.__aenter__())
        sent = 0
        half = b""
        try:
            pieces = response.iter_bytes()
            while True:
                with endpoint.failures():
                    piece = await endpoint.within(anext(pieces, None))
                if piece is None:
                    break
                if sent == 0 and (half + piece).startswith(CONTAINERS):
                    raise endpoint.blocked(
                        "does not answer with plain PCM",
                        "provider_client_error",
                        hint="use a server that supports response_format 'pcm' (24 kHz, 16 bit, mono)",
                    )
                half += piece
                whole = len(half) // 2 * 2
                if whole:
                    yield SpeechChunk(pcm=np.frombuffer(half[:whole], dtype="<i2").astype(np.int16))
                    sent += whole // 2
                    half = half[whole:]
        finally:
            await request.__aexit__(None, None, None)
        if sent == 0:
            raise endpoint.failure("sent no audio", hint="check the model and the voice")

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()
