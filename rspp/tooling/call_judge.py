"""Judge a call from the caller's recording: figures, and whether what was scripted happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rspp.tooling.figures import Check, Figure, Gate, Rival
from rspp.tooling.measure import (
    Stretch,
    answer_delay,
    longest_silence,
    round_trips,
    silence_delay,
    stretches,
    summarise,
)

if TYPE_CHECKING:
    from rspp.tooling.caller.script import StepRecord
    from rspp.tooling.room_call import CallResult
    from rspp.tooling.story import Story, Turn

ANSWER_LIMIT_MS = 3000
AFTERMATH_MS = 600
"""A hold begins at most this long after the sound that caused it has ended."""
SILENCE_OVER_FLOOR_MS = 85
WORST_SILENCE_OVER_FLOOR_MS = 200
ANSWER_OVER_FLOOR_MS = 330
BACKCHANNEL_OVER_LENGTH_MS = 350
NOISE_LIMIT_MS = 300
TYPICAL_FLOOR_MS = 95.0
"""Round trip of the room where it was not measured in the same run: 85 to 105 ms on loopback."""

LIVEKIT, PIPECAT = "livekit-agents 1.8.9", "pipecat 1.14.0"
SILENCE_RIVALS = [
    Rival(f"{LIVEKIT}, defaults", 684, 644, 784),
    Rival(f"{LIVEKIT}, tuned", 309, 259, 389),
    Rival(f"{PIPECAT}, defaults", 487, 436, 787),
    Rival(f"{PIPECAT}, tuned", 401, 351, 551),
]
ANSWER_RIVALS = [
    Rival(f"{LIVEKIT}, defaults", 744, 724, 764),
    Rival(f"{LIVEKIT}, tuned", 539, 499, 569),
    Rival(f"{PIPECAT}, defaults", 537, 500, 700, note="500 to 700, but 3.4 to 3.6 s for 6 of 28 sentences"),
    Rival(f"{PIPECAT}, tuned", 562, 480, 600),
]
BACKCHANNEL_RIVALS = [
    Rival(f"{LIVEKIT}, defaults", None, 2100, 2400),
    Rival(f"{LIVEKIT}, tuned", None, 2500, 2800),
    Rival(PIPECAT, note="drops the answer and never goes on (4 of 4)"),
]


@dataclass(slots=True)
class Judged:
    """What a call gave.

    Attributes:
        answers: end of speech to the first audible answer, ms.
        silences: onset of an interruption to silence, ms.
        backchannels: the agent's silence around a listener's word less the word's length, ms.
        backchannel_silences: the same silences as they were heard, ms.
        noises: the agent's silence around a cough or a click, ms.
        missed: by figure, what gave no value and why.
    """

    answers: list[float] = field(default_factory=list)
    silences: list[float] = field(default_factory=list)
    backchannels: list[float] = field(default_factory=list)
    backchannel_silences: list[float] = field(default_factory=list)
    noises: list[float] = field(default_factory=list)
    missed: dict[str, list[str]] = field(default_factory=dict)

    def miss(self, figure: str, reason: str) -> None:
        """Note an attempt that gave no value."""
        self.missed.setdefault(figure, []).append(reason)

    def add(self, other: Judged) -> None:
        """Take another call's values too."""
        self.answers += other.answers
        self.silences += other.silences
        self.backchannels += other.backchannels
        self.backchannel_silences += other.backchannel_silences
        self.noises += other.noises
        for figure, reasons in other.missed.items():
            self.missed.setdefault(figure, []).extend(reasons)


def judge(call: CallResult) -> Judged:
    """Measure every step of a call whose name asks for it."""
    recording = call.recording
    agent = stretches(recording.heard, recording.rate_hz)
    judged = Judged()
    for step in call.steps:
        spoken = recording.caller(step.begin, step.end)
        if spoken is None and step.do == "click":
            # A knock of 8 ms is shorter than the two windows that make a voice audible.
            spoken = Stretch(recording.ms(step.begin), recording.ms(step.end))
        if spoken is None:
            continue
        where = f"{step.text or step.do} at {spoken.begin / 1000:.1f} s"
        if step.name in {"interruption", "question", "ask", "rest", "goodbye"}:
            delay = answer_delay(agent, spoken.end)
            if delay is None or not 0 <= delay <= ANSWER_LIMIT_MS:
                judged.miss(
                    "answer", f"no answer to {where}" if delay is None else f"{delay:.0f} ms after {where}"
                )
            else:
                judged.answers.append(delay)
        if step.name == "interruption":
            silence = silence_delay(agent, spoken.begin, spoken.end)
            if silence is None:
                judged.miss("silence", f"the agent spoke on through {where}")
            else:
                judged.silences.append(silence)
        if step.name in {"backchannel", "cough", "click"}:
            _judge_noise(judged, step, spoken, agent, where)
    return judged


def _judge_noise(judged: Judged, step: StepRecord, spoken: Stretch, agent: list[Stretch], where: str) -> None:
    kind = "backchannel" if step.name == "backchannel" else "noise"
    silence = longest_silence(agent, spoken.begin, spoken.end + AFTERMATH_MS)
    if silence is None:
        judged.miss(kind, f"the agent did not go on after {where}")
    elif kind == "backchannel":
        judged.backchannel_silences.append(silence)
        judged.backchannels.append(max(0.0, silence - spoken.length))
    else:
        judged.noises.append(silence)


def floor_of(call: CallResult) -> list[float]:
    """Round trips of the tones of a call with a bare echo, ms."""
    recording = call.recording
    sent = stretches(recording.sent, recording.rate_hz)
    return round_trips(sent, stretches(recording.heard, recording.rate_hz))


def figures_of(judged: Judged, story: Story, floor: float, floor_source: str, needed: int) -> list[Figure]:
    """Put the values of one or more calls beside their gates.

    Args:
        judged: measured at the caller.
        story: the runtime's own records of the same calls.
        floor: round trip of the room, ms.
        floor_source: where the floor comes from.
        needed: least number of interruptions and of answers.
    """
    base = f"{floor_source} {floor:.0f}"
    own_answer = [
        turn.latencies["end_of_speech_to_turn_open"] + turn.latencies["turn_open_to_first_output"]
        for turn in story.ordered
        if {"end_of_speech_to_turn_open", "turn_open_to_first_output"} <= turn.latencies.keys()
    ]
    waits = [
        turn.latencies["end_of_speech_to_turn_open"]
        for turn in story.ordered
        if "end_of_speech_to_turn_open" in turn.latencies
    ]
    middle = summarise(waits)
    shown = f"{middle.median:.0f} of it waiting for more words" if middle else ""
    answer = Figure(
        "answer",
        "End of speech to answer",
        judged.answers,
        [Gate("median", floor + ANSWER_OVER_FLOOR_MS, f"{base} + {ANSWER_OVER_FLOOR_MS}")],
        runtime=own_answer,
        runtime_title=shown,
        rivals=ANSWER_RIVALS,
        needed=needed,
        missed=judged.missed.get("answer", []),
    )
    silence = Figure(
        "silence",
        "Interruption to silence",
        judged.silences,
        [
            Gate("median", floor + SILENCE_OVER_FLOOR_MS, f"{base} + {SILENCE_OVER_FLOOR_MS}"),
            Gate("maximum", floor + WORST_SILENCE_OVER_FLOOR_MS, f"{base} + {WORST_SILENCE_OVER_FLOOR_MS}"),
        ],
        rivals=SILENCE_RIVALS,
        needed=needed,
        missed=judged.missed.get("silence", []),
    )
    held = [
        hold.end - hold.begin
        for turn in story.ordered
        for hold in turn.holds
        if hold.end is not None and (turn.closed is None or hold.end < turn.closed)
    ]
    backchannel = Figure(
        "backchannel",
        'Silence around "mhm", less its length',
        judged.backchannels,
        [Gate("maximum", BACKCHANNEL_OVER_LENGTH_MS, "its length + 350, then it goes on")],
        runtime=held,
        runtime_title="until the hold was released",
        rivals=BACKCHANNEL_RIVALS,
        missed=judged.missed.get("backchannel", []),
    )
    noise = Figure(
        "noise",
        "Silence around a cough or click",
        judged.noises,
        [Gate("maximum", NOISE_LIMIT_MS, "then it goes on")],
        missed=judged.missed.get("noise", []),
    )
    return [silence, answer, backchannel, noise]


def wait_figure(story: Story) -> Figure:
    """The endpointing wait by itself: how long the runtime waited for more words, by its own clock."""
    waits = [
        turn.latencies["end_of_speech_to_turn_open"]
        for turn in story.ordered
        if "end_of_speech_to_turn_open" in turn.latencies
    ]
    return Figure("endpointing", "Endpointing wait, by the runtime, part of the answer", waits)


# ------------------------------------------------------------------------------ the scripted call
def check_demo(call: CallResult, story: Story) -> list[Check]:
    """Say whether the demo's call went as scripted, from the recording and from the timeline."""
    recording = call.recording
    agent = stretches(recording.heard, recording.rate_hz)
    judged = judge(call)
    turns = story.ordered
    said = [turn.caller_text for turn in turns if turn.caller_text]
    wanted = _expected_words(call)
    first = call.named("question")
    greeted = [s for s in agent if first and s.begin < recording.ms(first[0].begin)]
    aborted = [turn for turn in turns if turn.outcome == "abort"]
    held = sum(len(turn.holds) for turn in turns if turn.outcome == "commit")
    checks = [
        Check("the caller carried its script out and hung up", call.outcome == "completed", call.outcome),
        Check("the greeting was heard", sum(s.length for s in greeted) >= 1000, _seconds(greeted)),
        Check("every sentence was understood as it was said", said == wanted, _difference(wanted, said)),
        Check(
            "every question was answered",
            "answer" not in judged.missed and len(judged.answers) == len(wanted),
            f"{len(judged.answers)} of {len(wanted)}",
        ),
        Check(
            "the interrupted answer fell silent and was given up",
            len(judged.silences) == 1 and [turn.reason for turn in aborted] == ["cancelled"],
            f"turn {aborted[0].number} aborted" if aborted else "no turn was aborted",
        ),
        Check(
            "only what was heard of it is remembered",
            bool(aborted) and _was_cut(aborted[0].agent_text, story),
            f"…{aborted[0].agent_text[-40:]}" if aborted else "",
        ),
        Check("after the cough the agent went on", "noise" not in judged.missed, _list_ms(judged.noises)),
        Check(
            'after the "mhm" the agent went on with the same answer',
            "backchannel" not in judged.missed and bool(judged.backchannel_silences) and _said_in_full(turns),
            _list_ms(judged.backchannel_silences) + f", holds released: {held}",
        ),
        _check_pause(call, agent, said),
        Check(
            "the agent said goodbye",
            bool(turns) and "Goodbye" in turns[-1].agent_text and turns[-1].outcome == "commit",
            turns[-1].agent_text if turns else "",
        ),
    ]
    if story.gaps:
        checks.append(Check("the timeline is whole", passed=False, detail=f"{story.gaps} records missing"))
    return checks


def _expected_words(call: CallResult) -> list[str]:
    """What the recogniser should have understood, one entry for each turn of the caller."""
    wanted: list[str] = []
    for step in call.steps:
        if step.name == "rest" and wanted:
            wanted[-1] += f" {step.text}"
        elif step.name in {"question", "ask", "interruption", "broken", "goodbye"}:
            wanted.append(step.text)
    return wanted


def _check_pause(call: CallResult, agent: list[Stretch], said: list[str]) -> Check:
    title = "a thinking pause was waited for, and the whole sentence answered once"
    broken, rest = call.named("broken"), call.named("rest")
    if not broken or not rest:
        return Check(title, passed=False, detail="it was not said")
    begin, end = call.recording.ms(broken[0].begin), call.recording.ms(rest[0].end)
    spoke = [s for s in agent if s.begin < end and s.end > begin]
    whole = f"{broken[0].text} {rest[0].text}"
    return Check(
        title, not spoke and said.count(whole) == 1, "silent until its end" if not spoke else "spoke into it"
    )


def _said_in_full(turns: list[Turn]) -> bool:
    """Whether every answer in which a voice was held, but for the interrupted one, was said in full."""
    return sum(turn.outcome == "commit" and bool(turn.holds) for turn in turns) >= 1


def _was_cut(heard: str, story: Story) -> bool:
    whole = max((turn.agent_text for turn in story.ordered if turn.outcome == "commit"), key=len, default="")
    return 0 < len(heard) < len(whole)


def _seconds(found: list[Stretch]) -> str:
    return f"{sum(s.length for s in found) / 1000:.1f} s of speech"


def _list_ms(values: list[float]) -> str:
    return "silent for " + ", ".join(f"{value:.0f}" for value in values) + " ms" if values else ""


def _difference(wanted: list[str], said: list[str]) -> str:
    if wanted == said:
        return f"{len(said)} of {len(wanted)}"
    missing = [text for text in wanted if text not in said]
    extra = [text for text in said if text not in wanted]
    return f"not understood: {missing or 'none'}; understood instead: {extra or 'none'}"
