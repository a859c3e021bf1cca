"""Recognition by any server with ``/v1/audio/transcriptions``: one request whenever the caller pauses."""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING, Final

import openai

from rspp.contracts.errors import ProviderError
from rspp.contracts.media import INPUT_RATE_HZ, Pcm
from rspp.contracts.ports import Hypothesis
from rspp.pipeline.patterns import parse_pattern, spoken_words
from rspp.providers.grammar import Automaton
from rspp.providers.openai_endpoint import Endpoint

if TYPE_CHECKING:
    from rspp.pipeline.spec import OpenAiStt

LONGEST_S: Final = 120
"""Longest utterance held, seconds (3.8 MB)."""
SHORTEST_SAMPLES: Final = INPUT_RATE_HZ // 10
"""Servers refuse audio of less than 100 ms."""
CLOSING: Final = " \"'\u201d\u2019"
OTHER_SPELLINGS: Final[dict[str, tuple[str, ...]]] = {
    "mhm": ("mhmm", "mm hmm", "mmhmm", "mm", "hmm"),
    "uh huh": ("uhhuh",),
    "okay": ("ok",),
}
"""How transcription models write a listener's words."""


class OpenAiRecognition:
    """Recognises one caller's utterances, each as a whole; it has no partial hypotheses.

    Args:
        spec: server, model, language and a listener's words.
        api_key: empty sends none.
    """

    def __init__(self, spec: OpenAiStt, api_key: str) -> None:
        self._spec = spec
        self._endpoint = Endpoint("stt", spec, api_key)
        others = [other for word in spec.backchannels for other in OTHER_SPELLINGS.get(word.lower(), ())]
        self._backchannels = Automaton([parse_pattern(word) for word in (*spec.backchannels, *others)])
        self._audio = bytearray()

    async def begin(self) -> None:
        """Start a new utterance; drops what an unfinished one held."""
        self._audio.clear()

    async def accept(self, pcm: Pcm) -> Hypothesis | None:
        """Keep audio at 16 kHz until ``conclude``.

        Raises:
            ProviderError: the utterance is longer than ``LONGEST_S``.
        """
        if len(self._audio) + 2 * len(pcm) > 2 * LONGEST_S * INPUT_RATE_HZ:
            raise ProviderError(
                f"stt: the utterance is longer than {LONGEST_S} s",
                outcome="overload",
                reason="provider_overload",
                hint=f"set turn.max_utterance_ms to at most {LONGEST_S * 1000}",
            )
        self._audio += pcm.astype("<i2").tobytes()
        return None

    async def conclude(self) -> Hypothesis:
        """Have the utterance so far transcribed; complete if the text ends like a sentence.

        Raises:
            ProviderError: refused, unreachable, or silent for ``timeout_ms``.
        """
        if len(self._audio) < 2 * SHORTEST_SAMPLES:
            return Hypothesis(text="")
        endpoint = self._endpoint
        with endpoint.failures():
            transcription = await endpoint.within(
                endpoint.client.audio.transcriptions.create(
                    file=("utterance.wav", _wav(bytes(self._audio)), "audio/wav"),
                    model=self._spec.model,
                    language=self._spec.language or openai.omit,
                    response_format="json",
                    extra_headers=endpoint.headers,
                )
            )
        text = transcription.text
        if not isinstance(text, str):
            raise endpoint.failure("sent a transcription without text")
        words = spoken_words(text)
        return Hypothesis(
            text=" ".join(words),
            complete=text.rstrip(CLOSING).endswith((".", "!", "?")),
            backchannel=self._backchannels.accepts(words),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()


def _wav(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(INPUT_RATE_HZ)
        file.writeframes(data)
    return buffer.getvalue()
