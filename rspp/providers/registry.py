"""Opens the providers that a pipeline names; each is imported only when it is named."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rspp.contracts.errors import ConfigurationError
from rspp.pipeline import spec as types
from rspp.pipeline.data_flow import check_border
from rspp.pipeline.normalise import degraded_of, lesser_voice_of
from rspp.providers.fixed import FixedResponder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rspp.contracts.ports import (
        Offloader,
        RecognitionStream,
        Responder,
        Synthesizer,
        VoiceActivityDetector,
    )
    from rspp.pipeline.spec import PipelineSpec


class Providers:
    """The open providers of one session.

    Attributes:
        vad: tells speech from silence.
        recognition: hears the caller's words.
        responder: writes replies.
        synthesizer: speaks them.
        responders: ``responder`` and those that take over when it fails, in order.
        synthesizers: ``synthesizer`` and those that take over when it fails, in order.
        recognisers: ``recognition`` and those that take over when it fails, in order.
        lesser_voice: speaks the rest of a turn that was degraded; none where no plan allows that.
        lesser_responder: writes the reply of a turn that was degraded; none where the pipeline has none.
    """

    def __init__(
        self,
        *,
        vad: VoiceActivityDetector,
        recognition: RecognitionStream,
        responder: Responder,
        synthesizer: Synthesizer,
        other_responders: Sequence[Responder] = (),
        other_synthesizers: Sequence[Synthesizer] = (),
        other_recognisers: Sequence[RecognitionStream] = (),
        lesser_voice: Synthesizer | None = None,
        lesser_responder: Responder | None = None,
    ) -> None:
        self.vad = vad
        self.recognition = recognition
        self.responder = responder
        self.synthesizer = synthesizer
        self.responders = (responder, *other_responders)
        self.synthesizers = (synthesizer, *other_synthesizers)
        self.recognisers = (recognition, *other_recognisers)
        self.lesser_voice = lesser_voice
        self.lesser_responder = lesser_responder

    def voices(self, most: int) -> tuple[Synthesizer, ...]:
        """Return at most so many candidates for speech and then the lesser form, as the kernel counts."""
        lesser = () if self.lesser_voice is None else (self.lesser_voice,)
        return (*self.synthesizers[:most], *lesser)

    def writers(self, most: int) -> tuple[Responder, ...]:
        """Return at most so many candidates for replies and then the lesser form, as the kernel counts."""
        lesser = () if self.lesser_responder is None else (self.lesser_responder,)
        return (*self.responders[:most], *lesser)

    async def close(self) -> None:
        """Close them all, also when one of them fails to; safe to call twice."""
        voices = [provider.close for provider in self.voices(len(self.synthesizers))]
        writers = [provider.close for provider in self.writers(len(self.responders))]
        hearers = [provider.close for provider in self.recognisers]
        await _close_all([*voices, *writers, *hearers])
        self.vad.close()


async def open_providers(
    spec: PipelineSpec, offloader: Offloader, work: Callable[[str], Offloader] | None = None
) -> Providers:
    """Open the providers of a pipeline for one session.

    Models and heavy libraries are loaded through ``offloader``. When one provider cannot be opened, those
    already open are closed.

    Args:
        spec: the pipeline.
        offloader: where they are loaded and closed.
        work: where the blocking ones of each modality work; ``offloader`` when left out.

    Raises:
        ConfigurationError: a provider over the network would be given what it may not have, or a provider
            cannot be opened; the message names the field, and for a missing
            API key the environment variable.
    """
    check_border(spec)
    opened: list[Callable[[], Awaitable[None]]] = []
    try:
        vad = await offloader.run(_open_vad)
        opened.append(_closing(vad))
        responders = []
        for llm in (spec.llm, *spec.alternatives.llm):
            responders.append(await _open_responder(llm, offloader))
            opened.append(responders[-1].close)
        recognisers = []
        for stt in (spec.stt, *spec.alternatives.stt):
            recognisers.append(await _open_recognition(stt, spec, offloader, work))
            opened.append(recognisers[-1].close)
        synthesizers = []
        for tts in (spec.tts, *spec.alternatives.tts):
            synthesizers.append(await _open_synthesizer(tts, offloader, work))
            opened.append(synthesizers[-1].close)
        lesser_voice = await embedded_voice(offloader, work) if lesser_voice_of(spec) else None
        if lesser_voice is not None:
            opened.append(lesser_voice.close)
        degraded = degraded_of(spec)
        lesser_responder = None
        if degraded is not None:
            lesser_responder = await _open_responder(degraded.llm, offloader, "degraded.llm")
    except BaseException:
        await _close_all(list(reversed(opened)))
        raise
    return Providers(
        vad=vad,
        recognition=recognisers[0],
        responder=responders[0],
        synthesizer=synthesizers[0],
        other_responders=responders[1:],
        other_synthesizers=synthesizers[1:],
        other_recognisers=recognisers[1:],
        lesser_voice=lesser_voice,
        lesser_responder=lesser_responder,
    )


async def _close_all(closers: list[Callable[[], Awaitable[None]]]) -> None:
    """Await every closer; the first failure is raised once all were tried."""
    if closers:
        try:
            await closers[0]()
        finally:
            await _close_all(closers[1:])


def _closing(vad: VoiceActivityDetector) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        vad.close()

    return close


async def embedded_voice(offloader: Offloader, work: Callable[[str], Offloader] | None = None) -> Synthesizer:
    """Open the voice that needs no key and no network; it speaks when the pipeline's own one fails.

    Args:
        offloader: where it is started.
        work: gives each blocking provider of a modality a place to work; ``offloader`` when left out.

    Raises:
        ConfigurationError: it cannot be started.
    """
    return await _open_synthesizer(types.EspeakTts(), offloader, work)


def _open_vad() -> VoiceActivityDetector:
    from rspp.providers.silero import SileroDetector

    return SileroDetector()


async def _open_recognition(
    stt: types.PocketsphinxStt | types.OpenAiStt,
    spec: PipelineSpec,
    offloader: Offloader,
    work: Callable[[str], Offloader] | None,
) -> RecognitionStream:
    if isinstance(stt, types.OpenAiStt):
        endpoint, key = stt, api_key("stt", stt)

        def open_recognition() -> RecognitionStream:
            from rspp.providers.openai_stt import OpenAiRecognition

            return OpenAiRecognition(endpoint, key)

        return await offloader.run(open_recognition)
    from rspp.providers.pocketsphinx import open_pocketsphinx

    candidates = (spec.llm, *spec.alternatives.llm)
    rules = next((llm for llm in candidates if isinstance(llm, types.RulesLlm)), None)
    return await open_pocketsphinx(stt, rules, offloader, work("stt") if work else None)


async def _open_responder(
    llm: types.FixedLlm | types.RulesLlm | types.OpenAiLlm, offloader: Offloader, section: str = "llm"
) -> Responder:
    if isinstance(llm, types.FixedLlm):
        return FixedResponder(llm.say)
    if isinstance(llm, types.OpenAiLlm):
        endpoint, key = llm, api_key(section, llm)

        def open_responder() -> Responder:
            from rspp.providers.openai_llm import OpenAiResponder

            return OpenAiResponder(endpoint, key)

        return await offloader.run(open_responder)
    from rspp.providers.rules import RulesResponder

    return RulesResponder(llm)


async def _open_synthesizer(
    spec: types.EspeakTts | types.OpenAiTts, offloader: Offloader, work: Callable[[str], Offloader] | None
) -> Synthesizer:
    if isinstance(spec, types.OpenAiTts):
        key = api_key("tts", spec)

        def open_synthesizer() -> Synthesizer:
            from rspp.providers.openai_tts import OpenAiSynthesizer

            return OpenAiSynthesizer(spec, key)

        return await offloader.run(open_synthesizer)
    from rspp.providers.espeak import open_espeak

    return await open_espeak(spec.voice, spec.words_per_minute, offloader, work("tts") if work else None)


def api_key(section: str, endpoint: types.OpenAiEndpoint) -> str:
    """Return the API key of an endpoint from its environment variable; empty when it names none.

    Raises:
        ConfigurationError: the variable is unset or empty.
    """
    if not endpoint.api_key_env:
        return ""
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key:
        raise ConfigurationError(
            f"{section}.api_key_env: the environment variable {endpoint.api_key_env} is not set",
            hint=f"export {endpoint.api_key_env}=… or write it into .env; "
            f"for a server without keys set {section}.api_key_env to an empty string",
        )
    return key
