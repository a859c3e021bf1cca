"""The pipeline file as types: what an author writes, with every default made explicit.

Unknown keys are refused, so that a misspelt key never passes for a default.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, UnsetType, field

from rspp.pipeline.base import AdaptiveAction, Identifier, Milliseconds, Name, Strict
from rspp.pipeline.graph_section import GraphSection  # noqa: TC001 - msgspec reads the annotations
from rspp.pipeline.profile import SIMPLE_NAME, ExecutionProfile, RecordingLevel

Probability: TypeAlias = Annotated[float, Meta(ge=0.01, le=0.99)]
Speech: TypeAlias = Annotated[str, Meta(max_length=4000)]
Pattern: TypeAlias = Annotated[str, Meta(min_length=1, max_length=500)]
ContentClass: TypeAlias = Literal["audio_raw", "text_raw", "PII", "PHI"]
"""Payload classes of what is said and heard."""
FullClass: TypeAlias = Literal["text_raw", "audio_raw"]
"""Payload classes that a tenant may have recorded in full."""

DEFAULT_BACKCHANNELS = ("mhm", "uh huh", "yeah", "okay", "right")


class Rule(Strict, frozen=True, kw_only=True):
    """One rule of the embedded responder.

    Attributes:
        hear: pattern of the caller's words: ``(a | b)`` alternatives, ``[a]`` optional words,
            ``<name>`` any phrase of the slot of that name.
        say: the reply; ``{name}`` repeats the phrase that a slot matched.
        action: ``hang_up`` ends the call after the reply.
    """

    hear: Pattern
    say: Speech
    action: Annotated[str, Meta(pattern="^(hang_up)?$")] = ""


class SileroVad(Strict, tag_field="provider", tag="silero", frozen=True, kw_only=True):
    """Voice activity by the MIT-licensed Silero weights.

    Attributes:
        speech: a window at or above this probability is speech.
        silence: in speech, a window below this probability is silence.
    """

    speech: Probability = 0.5
    silence: Probability = 0.35


class PocketsphinxStt(Strict, tag_field="provider", tag="pocketsphinx", frozen=True, kw_only=True):
    """Recognition by pocketsphinx with a grammar; US English, no dictation.

    Attributes:
        grammar: patterns as in ``Rule.hear``; empty takes the patterns of the rules.
        backchannels: a listener's words that do not take the turn.
        pronunciations: extra words with their CMU phones, such as ``mhm: M HH AH M``.
    """

    grammar: tuple[Pattern, ...] = ()
    backchannels: tuple[Pattern, ...] = DEFAULT_BACKCHANNELS
    pronunciations: dict[str, str] = field(default_factory=dict)


class RulesLlm(Strict, tag_field="provider", tag="rules", frozen=True, kw_only=True):
    """The embedded responder: answers by rules, streams word by word.

    Attributes:
        rules: tried in order; the first match answers.
        slots: phrases that ``<name>`` stands for in patterns.
        otherwise: the reply when no rule matches.
    """

    rules: Annotated[tuple[Rule, ...], Meta(min_length=1)]
    slots: dict[str, tuple[Pattern, ...]] = field(default_factory=dict)
    otherwise: Speech = "Sorry, I did not understand that."


class FixedLlm(Strict, tag_field="provider", tag="fixed", frozen=True, kw_only=True):
    """One sentence as the reply, whatever was asked.

    Attributes:
        say: the reply.
    """

    say: Annotated[Speech, Meta(min_length=1)]


class EspeakTts(Strict, tag_field="provider", tag="espeak", frozen=True, kw_only=True):
    """Speech by espeak-ng in a process of its own.

    Attributes:
        voice: espeak-ng voice name.
        words_per_minute: speaking rate.
    """

    voice: Name = "en-us"
    words_per_minute: Annotated[int, Meta(ge=80, le=450)] = 165


class OpenAiEndpoint(Strict, frozen=True, kw_only=True):
    """An OpenAI-compatible server.

    Attributes:
        base_url: such as ``http://127.0.0.1:8000/v1``.
        model: model name as the server knows it.
        api_key_env: name of the environment variable that holds the key; empty for none.
        timeout_ms: longest wait for the first result and between two results.
    """

    base_url: Annotated[str, Meta(pattern="^https?://", max_length=500)] = "https://api.openai.com/v1"
    model: Name
    api_key_env: Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$|^$")] = "OPENAI_API_KEY"
    timeout_ms: Milliseconds = 10_000


class OpenAiStt(OpenAiEndpoint, tag_field="provider", tag="openai", frozen=True, kw_only=True):
    """Recognition by ``/v1/audio/transcriptions``; sends each utterance once the caller pauses.

    Attributes:
        language: ISO 639-1 code; empty lets the server decide.
        backchannels: a listener's words that do not take the turn.
    """

    language: Annotated[str, Meta(max_length=10)] = ""
    backchannels: tuple[Pattern, ...] = DEFAULT_BACKCHANNELS


class OpenAiLlm(OpenAiEndpoint, tag_field="provider", tag="openai", frozen=True, kw_only=True):
    """Replies by ``/v1/chat/completions``, streaming.

    Attributes:
        system: instructions placed before the history.
        temperature: sampling temperature.
        max_tokens: longest reply.
    """

    system: Annotated[str, Meta(max_length=20_000)] = (
        "You are a voice agent. Answer in one or two short sentences."
    )
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.3
    max_tokens: Annotated[int, Meta(ge=1, le=8192)] = 300


class OpenAiTts(OpenAiEndpoint, tag_field="provider", tag="openai", frozen=True, kw_only=True):
    """Speech by ``/v1/audio/speech`` as streamed 24 kHz PCM.

    Attributes:
        voice: voice name as the server knows it.
    """

    voice: Name = "alloy"


class TurnSection(Strict, frozen=True, kw_only=True):
    """When the caller's turn has ended.

    Attributes:
        complete_wait_ms: silence after a sentence that is complete.
        incomplete_wait_ms: longest silence that is waited for after one that is not.
        probe_ms: silence after which the recogniser is asked for its whole hypothesis.
        max_utterance_ms: longest utterance; a longer one is answered as far as it was heard.
        overlap: what becomes of a chat text that arrives while the agent answers: ``preempt`` answers it at
            once, ``queue`` after that, ``defer`` not by itself but with what the caller says next.
        late_event: what becomes of words that are recognised only after their utterance has ended:
            ``drop``, ``diagnostics`` also records how late they were, ``remap`` answers them.
        late_grace_ms: how long after its end an unanswered utterance may still be answered by ``remap``.
    """

    complete_wait_ms: Milliseconds = 160
    incomplete_wait_ms: Milliseconds = 1500
    probe_ms: Milliseconds = 90
    max_utterance_ms: Milliseconds = 30_000
    overlap: Literal["preempt", "queue", "defer"] = "preempt"
    late_event: Literal["drop", "remap", "diagnostics"] = "drop"
    late_grace_ms: Annotated[int, Meta(ge=0, le=600_000)] = 0


class InterruptionSection(Strict, frozen=True, kw_only=True):
    """When a caller's voice stops the agent's.

    At the onset of speech the agent holds its voice. The hold becomes an interruption after
    ``confirm_ms`` of speech or ``confirm_words`` words that are no backchannel, and is released
    ``release_ms`` after the speech has ended (``short_release_ms`` after a burst of at most
    ``short_burst_ms``), going on from the sample where it stopped.

    Attributes:
        enabled: false lets the agent finish whatever the caller does.
        confirm_ms: lasting speech that interrupts.
        confirm_words: words that interrupt.
        release_ms: silence that releases the hold.
        short_burst_ms: a burst of at most this length is a cough or click.
        short_release_ms: silence that releases the hold after such a burst.
    """

    enabled: bool = True
    confirm_ms: Milliseconds = 700
    confirm_words: Annotated[int, Meta(ge=1, le=20)] = 3
    release_ms: Milliseconds = 150
    short_burst_ms: Milliseconds = 250
    short_release_ms: Milliseconds = 100


class BudgetSection(Strict, frozen=True, kw_only=True):
    """Longest waits inside a turn; from the profile when left out.

    Attributes:
        first_output_ms: from ``turn_open`` to the first frame of speech; 5000 in the profile ``simple``.
        stall_ms: without a frame in the middle of an unfinished answer; 3000 in the profile ``simple``.
    """

    first_output_ms: Milliseconds | UnsetType = UNSET
    stall_ms: Milliseconds | UnsetType = UNSET


class RecordingSection(Strict, frozen=True, kw_only=True):
    """How much of a call is recorded.

    Attributes:
        level: L0 keeps decisions and their evidence, without words and sound. L1 also keeps the words with
            every letter masked, for a while. L2 keeps what ``allow`` names in full, the rest masked or
            hashed; from the profile when left out.
        until_minutes: how long L1 lasts from the start of each call; it then goes down to L0.
        approval: who approved L2, and why; kept with every recording.
        allow: what L2 keeps in full, by explicit choice of the tenant.
    """

    level: RecordingLevel | UnsetType = UNSET
    until_minutes: Annotated[int, Meta(ge=1, le=10_080)] | UnsetType = UNSET
    approval: Annotated[str, Meta(max_length=500)] = ""
    allow: tuple[FullClass, ...] = ()


class DataSection(Strict, frozen=True, kw_only=True):
    """How sensitive a call is, and what may leave the machine.

    Attributes:
        caller: class of what callers say, in sound and in words: ``raw``, ``PII`` when it identifies people,
            ``PHI`` when it is about their health. The agent's replies have the same class.
        external: classes that providers over the network may be given.
    """

    caller: Literal["raw", "PII", "PHI"] = "raw"
    external: tuple[ContentClass, ...] = ("audio_raw", "text_raw")


class DegradedSection(Strict, frozen=True, kw_only=True):
    """What a turn goes on with in a lesser form, where ``adaptive_actions`` name ``degrade``.

    Recognition needs nothing here: it goes on with the words that it heard in part. Nor does speech: where
    every voice comes over a network, the embedded one speaks the rest of the turn.

    Attributes:
        llm: what answers when the language models cannot and nothing of their reply was spoken: a smaller
            model, rules, or one sentence (``provider: fixed``).
    """

    llm: FixedLlm | RulesLlm | OpenAiLlm


class AlternativeSection(Strict, frozen=True, kw_only=True):
    """The candidates after the first, in order; in a file they stand in one list with it.

    Attributes:
        stt: what hears when the first cannot.
        llm: what answers when the first cannot.
        tts: what speaks when the first cannot.
    """

    stt: tuple[PocketsphinxStt | OpenAiStt, ...] = ()
    llm: tuple[RulesLlm | OpenAiLlm, ...] = ()
    tts: tuple[EspeakTts | OpenAiTts, ...] = ()


class PipelineSpec(Strict, frozen=True, kw_only=True):
    """A pipeline: what hears, what answers, what speaks, and how turns are taken.

    Attributes:
        name: name of the pipeline.
        llm: what answers; a list of up to five lets each take over from the one before it.
        version: version the author gives it.
        greeting: said when the caller is there; empty for none.
        failure_notice: said after a turn that failed, or that a rotated lease cut off.
        unrecognised_notice: said when the caller spoke and nothing was understood.
        takeover_notice: said by a runtime that takes over a call.
        vad: what tells speech from silence.
        stt: what recognises words.
        tts: what speaks; a list of up to five lets each take over from the one before it.
        turn: when the caller's turn has ended.
        interruption: when a caller's voice stops the agent's.
        budget: longest waits inside a turn.
        recording: how much of a call is recorded.
        data: how sensitive a call is, and what may leave the machine.
        profile: named defaults: ``simple``, one of ``profiles``, or NAME for NAME.profile.yaml beside the
            pipeline file.
        profiles: execution profiles of one's own, by name.
        adaptive_actions: what may be tried within a turn when something fails; empty for nothing, from the
            profile when left out.
        degraded: what a turn goes on with in a lesser form, where ``adaptive_actions`` name ``degrade``.
        graph: Advanced mode: overrides of single edges, or a whole graph.
        alternatives: the candidates after the first of each list.
    """

    name: Name
    llm: RulesLlm | OpenAiLlm
    version: Name = "v1"
    greeting: Speech = ""
    failure_notice: Speech = "Sorry, something went wrong. Please say that again."
    unrecognised_notice: Speech = "Sorry, I did not catch that."
    takeover_notice: Speech = "Sorry, I lost you for a moment. Please go on."
    vad: SileroVad = field(default_factory=SileroVad)
    stt: PocketsphinxStt | OpenAiStt = field(default_factory=PocketsphinxStt)
    tts: EspeakTts | OpenAiTts = field(default_factory=EspeakTts)
    turn: TurnSection = field(default_factory=TurnSection)
    interruption: InterruptionSection = field(default_factory=InterruptionSection)
    budget: BudgetSection = field(default_factory=BudgetSection)
    recording: RecordingSection = field(default_factory=RecordingSection)
    data: DataSection | UnsetType = UNSET
    profile: Identifier = SIMPLE_NAME
    profiles: dict[str, ExecutionProfile] = field(default_factory=dict)
    adaptive_actions: tuple[AdaptiveAction, ...] | UnsetType = UNSET
    degraded: DegradedSection | UnsetType = UNSET
    graph: GraphSection | UnsetType = UNSET
    alternatives: AlternativeSection = field(default_factory=AlternativeSection)
