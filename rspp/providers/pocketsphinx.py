"""Recognition by pocketsphinx with a grammar: the embedded recogniser, US English, no dictation.

It knows the sentences of the pipeline and nothing else: free dictation with the models of its package
recognised almost none of the test sentences, so it is not offered, and a sentence outside the grammar comes
out as the nearest words inside it.

Measured with the grammar of ``front-desk.yaml`` and espeak-ng speech, on one of two shared cores. The
settings here, some pronunciations and the sentences of that grammar were chosen on the first set (voices
en-us, en-us+f3 and en-us+m3 at 140, 150, 165 and 180 words a minute), so its rates flatter; the second set
(en-us, f2, f4, m1 and m7 at 155 and 172) was heard once, afterwards. Nobody's real voice was tried.

- whole sentences exact: 478 of 480, then 396 of 400; first words of sentences exact: 95 of 96, then 76 of
  80, of which 2 (voice f4) were taken for complete;
- a listener's words ("mhm", "uh huh", "yeah", "okay", "right"): 60 of 60, then 50 of 50; bursts of noise of
  90 to 450 ms: 216 of 216, then 60 of 60 empty or a listener's word, none a sentence;
- 0.025 of real time; ``conclude`` 10 ms, 17 ms at most; 16 ms and 6.7 MB for each further recogniser, 0.6 MB
  more once it was used.
"""

from __future__ import annotations

import functools
import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from rspp.contracts.errors import ConfigurationError, ProviderError
from rspp.contracts.media import INPUT_RATE_HZ, Pcm
from rspp.contracts.ports import Hypothesis
from rspp.pipeline.patterns import Pattern, parse_pattern
from rspp.providers.grammar import Automaton

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rspp.contracts.ports import Offloader
    from rspp.pipeline.spec import PocketsphinxStt, RulesLlm

T = TypeVar("T")

BATCH_SAMPLES: Final = INPUT_RATE_HZ // 10
"""Audio is decoded in pieces of 100 ms: one wake-up of a thread for five frames."""
TAIL_SAMPLES: Final = INPUT_RATE_HZ * 300 // 1000
"""Silence put behind an utterance; without it a third of the test sentences lost their last word."""
SETTLED_FRAMES: Final = 20
"""Frames of 10 ms after its end before a word of an unfinished utterance is believed."""
FINAL_MARGIN: Final = 0.03
"""How much worse (natural logarithm of the decoder's scaled score) a finished sentence may fit."""
LISTENER_MARGIN: Final = 0.1
"""The same for a listener's word where the alternative is no more than the first words of a sentence."""
FRAGMENT_WORDS: Final = 2
FLOOR_AMPLITUDE: Final = 20.0
"""Standard deviation of the faint noise (-64 dBFS) laid under all audio: the acoustic model was trained on
rooms and takes digital silence for sounds."""
FIRST_CEPSTRAL_MEAN: Final = "50,-1.1,-3.4,5.2,-6.7,-1.4,2.9,-7.3,-2.5,-4.2,0.4,0.3,-3.1"
"""Where the mean of a caller's channel starts: half way from flat to that of synthesised speech. With it 242
of 246 first sentences were recognised, at full and at quarter level; with the package's default 228."""
BACKCHANNEL_WEIGHT: Final = 0.3
SENTENCE_WEIGHT: Final = 0.5
NEXT_SENTENCE_WEIGHT: Final = 0.05
BUILT_IN_PRONUNCIATIONS: Final[dict[str, tuple[str, ...]]] = {
    "okay": ("OW K EY", "OW K Y EY"),
    "mhm": ("M HH AH M", "AH M HH AH M", "M HH M", "EH M EY CH EH M", "EH L EY CH EH L", "UW IY CH UW"),
    "huh": ("HH AH", "HH AA"),
    "uh": ("AH", "AA"),
    "yeah": ("Y AE", "Y EH", "Y EH AH"),
}
"""Listener's words as people and synthesisers say them. espeak-ng spells "mhm" letter by letter, and the
acoustic model hears the last two variants of it."""


class _Decoder:
    """The blocking half: one decoder over one grammar.

    A cancelled caller does not stop the work it started, so every use of the library takes a lock.
    """

    def __init__(
        self,
        sentences: list[Pattern],
        backchannels: list[Pattern],
        pronunciations: Mapping[str, str],
    ) -> None:
        import pocketsphinx

        words = frozenset(word for pattern in (*sentences, *backchannels) for word in pattern.words())
        phones = _pronunciations(words, pronunciations)
        try:
            self._whole = Automaton([*sentences, *backchannels])
            self._sentences = Automaton(sentences)
            self._backchannels = Automaton(backchannels)
        except ValueError as error:
            raise ConfigurationError(
                f"stt.grammar: {error}", hint="use fewer optional parts and alternatives, or more slots"
            ) from error
        self._lock = threading.Lock()
        self._decoder: Any = pocketsphinx.Decoder(
            hmm=str(_model() / "en-us"),
            dict=None,
            lm=None,
            bestpath=False,
            beam=1e-80,
            pbeam=1e-80,
            wbeam=1e-60,
            topn=2,
            cmninit=FIRST_CEPSTRAL_MEAN,
            loglevel="FATAL",
        )
        for word, variants in phones.items():
            for index, variant in enumerate(variants):
                name = word if index == 0 else f"{word}({index + 1})"
                try:
                    self._decoder.add_word(name, variant, update=False)
                except RuntimeError as error:
                    raise ConfigurationError(
                        f"stt.pronunciations.{word}: '{variant}' is no sequence of CMU phones",
                        hint="write phones such as 'M HH AH M' (AA AE AH AO AW AY B CH D DH EH ER EY F G HH "
                        "IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH)",
                    ) from error
        self._decoder.add_fsg("sentences", self._grammar())
        self._decoder.activate_search("sentences")
        self._started = False
        self._fed = 0
        self._channel = FIRST_CEPSTRAL_MEAN
        noise = np.random.default_rng(1).normal(0.0, FLOOR_AMPLITUDE, INPUT_RATE_HZ)
        self._floor = noise.astype(np.int16)

    def _grammar(self) -> object:
        """Sentences and a listener's words side by side, any of them followed by more."""
        moves: list[tuple[int, int, float] | tuple[int, int, float, str]] = []
        offset = len(self._sentences.transitions)
        final = offset + len(self._backchannels.transitions)
        for base, weight, automaton in (
            (0, SENTENCE_WEIGHT, self._sentences),
            (offset, BACKCHANNEL_WEIGHT, self._backchannels),
        ):
            for state, row in enumerate(automaton.transitions):
                source, probability = (0, weight) if state == 0 else (base + state, 1.0)
                moves += [(source, base + target, probability, word) for word, target in row.items()]
                if state in automaton.accepting:
                    moves.append((base + state, final, 1.0))
        moves.append((final, 0, NEXT_SENTENCE_WEIGHT))
        grammar: object = self._decoder.create_fsg("sentences", 0, final, moves)
        return grammar

    def begin(self) -> None:
        """Drop an unfinished utterance and start a new one."""
        with self._lock:
            self._stop()
            self._decoder.set_cmn(self._channel)
            self._decoder.start_utt()
            self._started = True
            self._fed = 0

    def _stop(self) -> None:
        if self._started:
            self._started = False
            self._decoder.end_utt()

    def accept(self, pcm: Pcm) -> str:
        """Decode audio and return the words that have settled."""
        with self._lock:
            self._decode(pcm)
            return " ".join(self._words(self._decoder.n_frames() - SETTLED_FRAMES))

    def conclude(self, pcm: Pcm) -> Hypothesis:
        """Decode the rest, finish the utterance and return the best hypothesis of all of it."""
        with self._lock:
            self._decode(np.concatenate((pcm, np.zeros(TAIL_SAMPLES, dtype=np.int16))))
            loose, loose_score = self._words(), self._score()
            self._stop()
            finished, finished_score = self._words(), self._score()
            hypothesis = self.hypothesis(self._choose(loose, loose_score, finished, finished_score))
            if hypothesis.complete and not hypothesis.backchannel:
                # Noise says nothing about the caller's channel: a hundred coughs would cost sentences.
                self._channel = self._decoder.get_cmn(False)
        return hypothesis

    def _choose(
        self, loose: list[str], loose_score: float, finished: list[str], finished_score: float
    ) -> list[str]:
        """Choose between the best path to anywhere and the best one to the end of a sentence.

        The first words of a sentence fit any noise, so a finished sentence that fits nearly as well is
        preferred, and a lone word that finishes nothing counts as noise.
        """
        if not loose or self._whole.accepts(loose):
            return loose
        behind = loose_score - finished_score
        if finished and behind <= FINAL_MARGIN:
            return finished
        if (
            len(loose) <= FRAGMENT_WORDS
            and behind <= LISTENER_MARGIN
            and self._backchannels.accepts(finished)
        ):
            return finished
        return loose if len(loose) > 1 else []

    def _decode(self, pcm: Pcm) -> None:
        if not self._started:
            raise RuntimeError("audio came before an utterance had begun")
        places = np.arange(self._fed, self._fed + len(pcm)) % len(self._floor)
        heard = np.clip(pcm.astype(np.int32) + self._floor[places], -32768, 32767).astype(np.int16)
        self._fed += len(pcm)
        self._decoder.process_raw(heard.tobytes())

    def hypothesis(self, words: list[str]) -> Hypothesis:
        """Judge words by the grammar."""
        return Hypothesis(
            text=" ".join(words),
            complete=self._whole.accepts(words),
            backchannel=self._backchannels.accepts(words),
        )

    def _score(self) -> float:
        found = self._decoder.hyp()
        return math.log(found.score) if found is not None and found.score > 0 else -math.inf

    def _words(self, until_frame: int | None = None) -> list[str]:
        if self._decoder.hyp() is None:
            return []
        return [
            part.word.partition("(")[0]
            for part in self._decoder.seg()
            if part.word[0] not in "<[(" and (until_frame is None or part.end_frame <= until_frame)
        ]

    def close(self) -> None:
        """Free the decoder."""
        with self._lock:
            self._stop()
            self._decoder = None


class PocketsphinxRecognition:
    """Recognises one caller's utterances; open it with ``open_pocketsphinx``."""

    def __init__(self, decoder: _Decoder, offloader: Offloader, work: Offloader) -> None:
        self._decoder: _Decoder | None = decoder
        self._offloader = offloader
        self._work = work
        self._pending: list[Pcm] = []
        self._pending_samples = 0
        self._last = ""

    async def begin(self) -> None:
        """Start a new utterance; drops what an unfinished one held."""
        decoder = self._open()
        self._take()
        self._last = ""
        await self._run(decoder.begin)

    async def accept(self, pcm: Pcm) -> Hypothesis | None:
        """Take audio at 16 kHz; decodes every 100 ms, and returns settled words when they changed."""
        decoder = self._open()
        self._pending.append(pcm)
        self._pending_samples += len(pcm)
        if self._pending_samples < BATCH_SAMPLES:
            return None
        audio = self._take()
        text = await self._run(lambda: decoder.accept(audio))
        if text == self._last:
            return None
        self._last = text
        return decoder.hypothesis(text.split())

    async def conclude(self) -> Hypothesis:
        """Return the best hypothesis of the utterance so far and finish it.

        Call ``begin`` before the next audio, also when the caller goes on with the same utterance.
        """
        decoder = self._open()
        audio = self._take()
        return await self._run(lambda: decoder.conclude(audio))

    async def close(self) -> None:
        """Free the recogniser; safe to call twice."""
        if self._decoder is not None:
            decoder, self._decoder = self._decoder, None
            await self._offloader.run(decoder.close)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await self._work.run(work)
        except RuntimeError as error:
            raise ProviderError(f"pocketsphinx: {error}", reason="adapter_invoke_error") from error

    def _open(self) -> _Decoder:
        if self._decoder is None:
            raise ProviderError("pocketsphinx: the recogniser is closed", outcome="cancelled")
        return self._decoder

    def _take(self) -> Pcm:
        pending, self._pending, self._pending_samples = self._pending, [], 0
        return np.concatenate(pending) if pending else np.zeros(0, dtype=np.int16)


def _model() -> Path:
    import pocketsphinx

    return Path(pocketsphinx.get_model_path()) / "en-us"


@functools.lru_cache(maxsize=64)
def _dictionary(words: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Pronunciations of these words alone: the whole dictionary costs 23 MB and 70 ms per decoder."""
    found: dict[str, list[str]] = {}
    with (_model() / "cmudict-en-us.dict").open(encoding="utf-8") as file:
        for line in file:
            name, _, phones = line.rstrip("\n").partition(" ")
            word = name.partition("(")[0]
            if word in words:
                found.setdefault(word, []).append(phones)
    return {word: tuple(variants) for word, variants in found.items()}


def _pronunciations(words: frozenset[str], extra: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Pronunciations of all words: the author's first, then the built-in ones, then the dictionary's.

    Raises:
        ConfigurationError: a word has none.
    """
    own = {word.lower(): " ".join(phones.upper().split()) for word, phones in extra.items()}
    known = _dictionary(words)
    missing = sorted(
        word for word in words if not own.get(word) and word not in known | BUILT_IN_PRONUNCIATIONS
    )
    if missing:
        raise ConfigurationError(
            f"stt: no pronunciation is known for {', '.join(repr(word) for word in missing)}",
            hint=f"add it under stt.pronunciations with its CMU phones, such as '{missing[0]}: M HH AH M', "
            "or use another word; numbers are written as words",
        )
    result: dict[str, tuple[str, ...]] = {}
    for word in sorted(words):
        common = BUILT_IN_PRONUNCIATIONS.get(word) or known.get(word, ())
        result[word] = tuple(dict.fromkeys((own[word], *common) if own.get(word) else common))
    return result


async def open_pocketsphinx(
    spec: PocketsphinxStt, rules: RulesLlm | None, offloader: Offloader, work: Offloader | None = None
) -> PocketsphinxRecognition:
    """Load a recogniser for one caller.

    Args:
        spec: grammar, a listener's words, extra pronunciations.
        rules: whose patterns are the grammar when ``spec.grammar`` is empty, and whose slots it may use.
        offloader: where the model is loaded and freed.
        work: where decoding runs; ``offloader`` when left out.

    Raises:
        ConfigurationError: there is no grammar, a pattern is malformed, or a word cannot be pronounced.
    """
    sources = spec.grammar or tuple(rule.hear for rule in (rules.rules if rules is not None else ()))
    if not sources:
        raise ConfigurationError(
            "stt.grammar: pocketsphinx needs the sentences that callers may say",
            hint="list them under stt.grammar, as in '[please] book a table'",
        )
    slots = rules.slots if rules is not None else {}
    sentences = [parse_pattern(source, slots) for source in sources]
    backchannels = [parse_pattern(source) for source in spec.backchannels]
    decoder = await offloader.run(lambda: _Decoder(sentences, backchannels, spec.pronunciations))
    return PocketsphinxRecognition(decoder, offloader, work or offloader)
