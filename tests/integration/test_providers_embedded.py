"""The embedded providers as a session uses them: real models, the real speech process."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
import pytest_asyncio

from rspp.contracts.errors import ConfigurationError, ProviderError
from rspp.contracts.media import INPUT_RATE_HZ, OUTPUT_RATE_HZ, Pcm, SpeechChunk
from rspp.contracts.ports import Hypothesis, Message
from rspp.pipeline import spec as types
from rspp.pipeline.loader import load_pipeline
from rspp.providers import espeak, espeak_pipe, registry
from rspp.providers.espeak import LONGEST_REQUEST, EspeakSynthesizer, open_espeak, split_text
from rspp.providers.pocketsphinx import PocketsphinxRecognition, open_pocketsphinx
from rspp.providers.rules import RulesResponder
from rspp.providers.silero import SileroDetector
from rspp.session.offload import InlineOffloader, ThreadOffloader
from tests.integration.speech import cough, silence, speech

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FRONT_DESK = Path(types.__file__).parent / "examples" / "front-desk.yaml"
PROGRAM = (sys.executable, "-m", "rspp.providers.espeak_process")
VOICES = ("en-us", "en-us+f3", "en-us+m3")


# ------------------------------------------------------------------------------------------ voice activity


def test_the_detector_tells_speech_from_silence_and_noise() -> None:
    detector = SileroDetector()
    assert detector.window_samples == 512

    def share_of_speech(pcm: Pcm) -> float:
        windows = pcm[: len(pcm) // 512 * 512].reshape(-1, 512)
        return float(np.mean([detector.probability(window) >= 0.5 for window in windows]))

    assert share_of_speech(silence(1000)) == 0.0
    assert share_of_speech(speech("what are your opening hours")) > 0.7
    detector.close()
    detector.close()
    with pytest.raises(ValueError, match="closed"):
        detector.probability(np.zeros(512, np.int16))


def test_a_window_of_another_length_is_refused() -> None:
    detector = SileroDetector()
    with pytest.raises(ValueError, match=r"\(511,\), expected \(512,\)"):
        detector.probability(np.zeros(511, np.int16))
    detector.close()


# --------------------------------------------------------------------------------------------- recognition


@pytest_asyncio.fixture
async def recognition() -> AsyncIterator[PocketsphinxRecognition]:
    pipeline = load_pipeline(FRONT_DESK)
    assert isinstance(pipeline.stt, types.PocketsphinxStt)
    assert isinstance(pipeline.llm, types.RulesLlm)
    opened = await open_pocketsphinx(pipeline.stt, pipeline.llm, InlineOffloader())
    yield opened
    await opened.close()


async def hear(recognition: PocketsphinxRecognition, pcm: Pcm) -> tuple[Hypothesis, list[Hypothesis]]:
    """Feed an utterance as a session does; returns its hypothesis and the partial ones."""
    audio = np.concatenate((silence(300), pcm, silence(90)))
    await recognition.begin()
    partials = [
        partial
        for start in range(0, len(audio), 320)
        if (partial := await recognition.accept(audio[start : start + 320])) is not None
    ]
    return await recognition.conclude(), partials


@pytest.mark.parametrize("voice", VOICES)
async def test_the_sentences_of_the_example_are_recognised(
    recognition: PocketsphinxRecognition, voice: str
) -> None:
    for sentence in (
        "what are your opening hours",
        "tell me the history of the house",
        "i would like to book a table for four people",
        "what is your address",
        "for tomorrow please",
        "goodbye",
    ):
        heard, partials = await hear(recognition, speech(sentence, voice))
        assert heard == Hypothesis(sentence, complete=True), voice
        assert len(sentence.split()) < 4 or any(partial.words >= 2 for partial in partials), voice


async def test_a_broken_sentence_is_incomplete_and_complete_once_all_of_it_was_fed_again(
    recognition: PocketsphinxRecognition,
) -> None:
    head = speech("i would like to book a table")
    heard, _ = await hear(recognition, head)
    assert heard == Hypothesis("i would like to book a table", complete=False)
    whole, _ = await hear(recognition, np.concatenate((head, silence(900), speech("for four people"))))
    assert whole == Hypothesis("i would like to book a table for four people", complete=True)


@pytest.mark.parametrize("word", ["mhm", "uh huh", "yeah", "okay", "right"])
async def test_a_listener_takes_no_turn(recognition: PocketsphinxRecognition, word: str) -> None:
    for voice in VOICES:
        heard, partials = await hear(recognition, speech(word, voice))
        assert heard.backchannel, (voice, heard)
        assert all(partial.words < 2 or partial.backchannel for partial in partials)


async def test_noise_is_no_sentence(recognition: PocketsphinxRecognition) -> None:
    click = silence(20)
    click[:16] = 20_000
    for noise in (click, silence(400), *(cough(seed, 120 + 40 * seed) for seed in range(6))):
        heard, partials = await hear(recognition, noise)
        assert heard.backchannel or not heard.text
        assert all(partial.words < 2 or partial.backchannel for partial in partials)


async def test_equal_calls_hear_equal_words_even_after_much_noise() -> None:
    sentence = speech("do you have parking", "en-us+m3")

    async def listen(coughs: int) -> Hypothesis:
        stt = types.PocketsphinxStt(grammar=("do you have parking", "do you have food"))
        opened = await open_pocketsphinx(stt, None, InlineOffloader())
        for seed in range(coughs):
            await hear(opened, cough(seed, 400, 12_000.0))
        heard, _ = await hear(opened, sentence)
        await opened.close()
        return heard

    assert await listen(0) == await listen(0) == await listen(20) == Hypothesis("do you have parking", True)


async def test_noise_teaches_the_recogniser_nothing(recognition: PocketsphinxRecognition) -> None:
    assert recognition._decoder is not None
    before = recognition._decoder._channel
    await hear(recognition, cough(1, 400, 12_000.0))
    await hear(recognition, speech("mhm"))
    assert recognition._decoder._channel == before
    await hear(recognition, speech("what is your address"))
    assert recognition._decoder._channel != before


async def test_first_words_that_fit_any_noise_are_not_believed(recognition: PocketsphinxRecognition) -> None:
    assert recognition._decoder is not None
    choose = recognition._decoder._choose
    listener, sentence = ["uh", "huh"], ["where", "are", "you"]
    assert choose(["i"], -0.2, [], -math.inf) == []
    assert choose(["i", "would"], -0.2, [], -math.inf) == ["i", "would"]
    assert choose(["i", "would"], -0.2, listener, -0.29) == listener
    assert choose(["i", "would"], -0.2, listener, -0.31) == ["i", "would"]
    assert choose(["i", "would", "like"], -0.2, listener, -0.25) == ["i", "would", "like"]
    assert choose(["where", "are"], -0.2, sentence, -0.22) == sentence
    assert choose(["where", "are"], -0.2, sentence, -0.24) == ["where", "are"]
    assert choose(sentence, -0.2, listener, -0.2) == sentence
    assert choose([], -math.inf, sentence, -0.2) == []


async def test_an_utterance_must_begin(recognition: PocketsphinxRecognition) -> None:
    with pytest.raises(ProviderError):
        await recognition.conclude()
    await recognition.begin()
    assert (await recognition.conclude()).text == ""
    await recognition.close()
    with pytest.raises(ProviderError, match="closed"):
        await recognition.begin()


@pytest.mark.parametrize(
    ("stt", "says"),
    [
        (types.PocketsphinxStt(), "stt.grammar: pocketsphinx needs the sentences"),
        (types.PocketsphinxStt(grammar=("book a qwertz",)), "no pronunciation is known for 'qwertz'"),
        (types.PocketsphinxStt(grammar=("a (b",)), "the bracket is not closed"),
        (
            types.PocketsphinxStt(grammar=("a qwertz",), pronunciations={"qwertz": "K WERTZ"}),
            "stt.pronunciations.qwertz: 'K WERTZ' is no sequence of CMU phones",
        ),
    ],
)
async def test_a_grammar_that_cannot_be_heard_is_refused(stt: types.PocketsphinxStt, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await open_pocketsphinx(stt, None, InlineOffloader())
    assert says in caught.value.message
    assert caught.value.hint


async def test_a_word_of_ones_own_is_heard_by_its_pronunciation() -> None:
    stt = types.PocketsphinxStt(
        grammar=("call the rspp desk", "call the police"), pronunciations={"RSPP": "AA R EH S P IY P IY"}
    )
    opened = await open_pocketsphinx(stt, None, InlineOffloader())
    heard, _ = await hear(opened, speech("call the R S P P desk"))
    await opened.close()
    assert heard == Hypothesis("call the rspp desk", complete=True)


# ----------------------------------------------------------------------------------------------- responder

RULES = types.RulesLlm(
    slots={"number": ("two", "three")},
    rules=(
        types.Rule(hear="where are you", say="At the harbour."),
        types.Rule(hear="a table for <number> [people]", say="A table for {number}."),
        types.Rule(hear="a table", say="For how many?"),
        types.Rule(hear="bye", say="Bye.", action="hang_up"),
    ),
    otherwise="Pardon?",
)


async def answer(*history: Message) -> tuple[str, str]:
    deltas = [delta async for delta in RulesResponder(RULES).respond(history)]
    assert all(len(delta.text.split()) == 1 for delta in deltas if not delta.action)
    return "".join(delta.text for delta in deltas), "".join(delta.action for delta in deltas)


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("where are you", ("At the harbour.", "")),
        ("Where are you?", ("At the harbour.", "")),
        ("a table for two people", ("A table for two.", "")),
        ("a table", ("For how many?", "")),
        ("bye", ("Bye.", "hang_up")),
        ("where are you a table for three", ("A table for three.", "")),
        ("a table for three where are you", ("At the harbour.", "")),
        ("well a table for two please", ("A table for two.", "")),
        ("nonsense", ("Pardon?", "")),
        ("", ("Pardon?", "")),
    ],
)
async def test_the_rules_answer_the_last_message(text: str, reply: tuple[str, str]) -> None:
    assert await answer(Message("user", "bye"), Message("assistant", "x"), Message("user", text)) == reply


async def test_a_reply_that_repeats_an_unknown_slot_is_refused() -> None:
    rules = types.RulesLlm(rules=(types.Rule(hear="a", say="{number}"),))
    with pytest.raises(ConfigurationError, match=r"llm.rules\[0\].say: '{number}' is no slot"):
        RulesResponder(rules)


# -------------------------------------------------------------------------------------------------- speech


@pytest_asyncio.fixture
async def voice() -> AsyncIterator[EspeakSynthesizer]:
    offloader = ThreadOffloader("speech")
    opened = await open_espeak("en-us", 165, offloader)
    yield opened
    await opened.close()
    offloader.close()


async def spoken(voice: EspeakSynthesizer, text: str) -> list[SpeechChunk]:
    return [chunk async for chunk in voice.synthesize(text)]


def audio(chunks: list[SpeechChunk]) -> Pcm:
    return np.concatenate([chunk.pcm for chunk in chunks])


def engine_pid() -> int:
    return espeak._engines[asyncio.get_running_loop()].pid


async def test_speech_streams_starts_at_once_and_marks_each_word(voice: EspeakSynthesizer) -> None:
    text = "Hello, a table for 12 people, at 9:30 - booked!"
    chunks = await spoken(voice, text)
    assert len(chunks) > 5
    pcm = audio(chunks)
    assert pcm.dtype == np.int16
    assert np.flatnonzero(np.abs(pcm.astype(int)) > 64)[0] <= 10 * OUTPUT_RATE_HZ // 1000
    marks = [mark for chunk in chunks for mark in chunk.words]
    assert [mark.text for mark in marks] == text.split()
    starts = [mark.start for mark in marks]
    assert starts == sorted(starts)
    assert starts[0] == 0
    assert starts[-1] < len(pcm)
    assert 2 < len(pcm) / OUTPUT_RATE_HZ < 6


async def test_marks_lie_where_the_words_are(voice: EspeakSynthesizer) -> None:
    chunks = await spoken(voice, "One. Two.")
    second = [mark.start for chunk in chunks for mark in chunk.words][1]
    pcm = np.abs(audio(chunks).astype(int))
    assert pcm[second - OUTPUT_RATE_HZ // 20 : second].max() < 300, "the pause before the second word"
    assert pcm[second : second + OUTPUT_RATE_HZ // 10].max() > 2000, "the second word"


async def test_the_same_text_gives_the_same_samples_whatever_was_said_before(
    voice: EspeakSynthesizer,
) -> None:
    first = audio(await spoken(voice, "We are open until eleven."))
    await spoken(voice, "Something else, then.")
    assert np.array_equal(first, audio(await spoken(voice, "We are open until eleven.")))


async def test_nothing_to_say_is_nothing(voice: EspeakSynthesizer) -> None:
    assert await spoken(voice, " ... \n - ") == []


async def test_a_text_longer_than_a_request_keeps_its_words_and_their_order(voice: EspeakSynthesizer) -> None:
    text = " ".join(f"Word number {index} is here." for index in range(60))
    chunks = await spoken(voice, text)
    marks = [mark for chunk in chunks for mark in chunk.words]
    assert [mark.text for mark in marks] == text.split()
    starts = [mark.start for mark in marks]
    assert starts == sorted(starts)
    assert starts[-1] < len(audio(chunks))


def test_a_text_is_cut_at_sentences_then_words_then_anywhere() -> None:
    assert split_text("a\x00b\nc") == ["a b c"]
    sentences = "Some words are here. " * 40
    assert all(part.endswith("here.") for part in split_text(sentences))
    words = "word " * 200
    assert " ".join(split_text(words)) == words.strip()
    letters = "x" * 1000
    assert "".join(split_text(letters)) == letters
    assert max(len(part) for part in split_text(sentences + words + letters)) <= LONGEST_REQUEST


async def test_a_speaker_that_is_cut_off_does_not_disturb_the_next(voice: EspeakSynthesizer) -> None:
    async with aclosing(voice.synthesize("This is a rather long sentence about nothing at all.")) as chunks:
        await anext(chunks)
    whole = audio(await spoken(voice, "Next."))
    assert np.array_equal(whole, audio(await spoken(voice, "Next.")))


async def test_sessions_share_one_process_and_do_not_mix(voice: EspeakSynthesizer) -> None:
    offloader = ThreadOffloader("second")
    other = await open_espeak("en-us+f3", 140, offloader)
    process = engine_pid()
    texts = ["The first one speaks.", "The second one speaks, and longer."]
    alone = [audio(await spoken(voice, texts[0])), audio(await spoken(other, texts[1]))]
    together = await asyncio.gather(spoken(voice, texts[0]), spoken(other, texts[1]))
    assert all(np.array_equal(one, audio(many)) for one, many in zip(alone, together, strict=True))
    await other.close()
    offloader.close()
    assert engine_pid() == process, "the process stays as long as one session uses it"


async def test_a_killed_process_fails_one_request_and_is_replaced(voice: EspeakSynthesizer) -> None:
    killed = engine_pid()
    os.kill(killed, signal.SIGKILL)
    with pytest.raises(ProviderError, match="has ended") as caught:
        await spoken(voice, "Hello.")
    assert caught.value.retryable
    assert await spoken(voice, "Hello.")
    assert engine_pid() != killed


async def test_a_hung_process_times_out_and_is_replaced(
    voice: EspeakSynthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(espeak_pipe, "HANG_S", 0.2)
    hung = psutil.Process(engine_pid())
    hung.suspend()
    with pytest.raises(ProviderError) as caught:
        await spoken(voice, "Hello.")
    assert caught.value.outcome == "timeout"
    assert not hung.is_running()
    assert await spoken(voice, "Hello.")


async def test_the_process_ends_with_its_last_session() -> None:
    opened = await open_espeak("en-us", 165, InlineOffloader())
    process = psutil.Process(engine_pid())
    await opened.close()
    await opened.close()
    assert not process.is_running()


def test_even_a_stopped_process_ends_when_its_parent_is_killed() -> None:
    program = (
        "import asyncio, os, signal\n"
        "from rspp.providers import espeak\n"
        "from rspp.session.offload import InlineOffloader\n"
        "async def main():\n"
        "    await espeak.open_espeak('en-us', 165, InlineOffloader())\n"
        "    pid = espeak._engines[asyncio.get_running_loop()].pid\n"
        "    print(pid, flush=True)\n"
        "    os.kill(pid, signal.SIGSTOP)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False
    )
    assert run.returncode == -signal.SIGKILL
    pid = int(run.stdout)
    try:
        psutil.Process(pid).wait(timeout=5)
    except psutil.NoSuchProcess:
        return


async def test_an_unknown_voice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="unknown voice 'nobody-9'") as caught:
        await open_espeak("nobody-9", 165, InlineOffloader())
    assert "en-us" in caught.value.hint


async def test_no_secret_reaches_the_speech_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    opened = await open_espeak("en-us", 165, InlineOffloader())
    environment = psutil.Process(engine_pid()).environ()
    await opened.close()
    assert "OPENAI_API_KEY" not in environment


def test_the_speech_program_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    wav = tmp_path / "out.wav"
    run = subprocess.run(
        [*PROGRAM, "--text", "a", "--voice", "nobody", "--wav", str(wav)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr.strip() == "espeak_process: unknown voice 'nobody'"
    assert not wav.exists()


def test_only_the_speech_process_loads_the_gpl_library() -> None:
    program = (
        "import sys, rspp.providers.registry, rspp.providers.espeak, rspp.providers.rules\n"
        "print('espeakng_loader' in sys.modules, 'openai' in sys.modules, 'pocketsphinx' in sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    assert run.stdout.split() == ["False", "False", "False"]


# ------------------------------------------------------------------------------------------------ registry


async def test_the_example_opens_and_hears_its_own_voice() -> None:
    offloader = ThreadOffloader("session")
    providers = await registry.open_providers(load_pipeline(FRONT_DESK), offloader)
    chunks = [chunk async for chunk in providers.synthesizer.synthesize("Where are you?")]
    heard = np.interp(
        np.arange(0, len(audio(chunks)), OUTPUT_RATE_HZ / INPUT_RATE_HZ),
        np.arange(len(audio(chunks))),
        audio(chunks),
    ).astype(np.int16)
    await providers.recognition.begin()
    await providers.recognition.accept(heard)
    hypothesis = await providers.recognition.conclude()
    assert hypothesis.text == "where are you"
    deltas = [delta.text async for delta in providers.responder.respond([Message("user", hypothesis.text)])]
    assert "Harbour" in "".join(deltas)
    await providers.close()
    await providers.close()
    offloader.close()


@pytest.mark.parametrize("section", ["stt", "llm", "tts"])
async def test_a_missing_key_is_named_and_nothing_stays_open(
    section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    sections: dict[str, object] = {
        "stt": types.PocketsphinxStt(),
        "llm": RULES,
        "tts": types.EspeakTts(),
    }
    kinds = {"stt": types.OpenAiStt, "llm": types.OpenAiLlm, "tts": types.OpenAiTts}
    sections[section] = kinds[section](model="m", api_key_env="SOME_KEY")
    if section == "llm":
        sections["stt"] = types.PocketsphinxStt(grammar=("a table",))
    pipeline = types.PipelineSpec(name="x", **sections)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=f"{section}.api_key_env: .* SOME_KEY is not set"):
        await registry.open_providers(pipeline, InlineOffloader())
    assert not [
        child for child in psutil.Process().children() if "espeak_process" in " ".join(child.cmdline())
    ]


async def test_a_provider_that_cannot_be_opened_closes_the_others() -> None:
    pipeline = types.PipelineSpec(name="x", llm=RULES, tts=types.EspeakTts(voice="nobody-9"))
    with pytest.raises(ConfigurationError, match="nobody-9"):
        await registry.open_providers(pipeline, InlineOffloader())
    assert not [
        child for child in psutil.Process().children() if "espeak_process" in " ".join(child.cmdline())
    ]


async def test_the_reserve_voice_speaks() -> None:
    voice = await registry.embedded_voice(InlineOffloader())
    assert [chunk async for chunk in voice.synthesize("Sorry.")]
    await voice.close()
