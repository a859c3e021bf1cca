"""What the caller says in the demo and in the bench, for the example pipeline.

Step names tell the judge what to look for: ``question`` expects an answer, ``ask`` a long answer that
something happens in, ``interruption`` silence and then an answer, ``backchannel``, ``cough`` and
``click`` that the agent goes on, ``broken`` and ``rest`` one sentence with a pause in it.
"""

from __future__ import annotations

from typing import Any

LIMIT_MS = 240_000
TIMEOUT_MS = 30_000
SETTLED_MS = 800
"""The agent has ended when it was silent this long; its own pauses between sentences are 0.2 s."""
THINKING_PAUSE_MS = 900
LONG_QUESTIONS = (
    "tell me about your restaurant",
    "tell me the history of the house",
    "tell me the story of the house",
)
INTERRUPTIONS = (
    "what is your address",
    "when do you open",
    "do you have parking",
    "where are you",
    "please stop",
)
BACKCHANNELS = (("mhm", 200), ("uh huh", 150))
"""A listener's words with the rate, words per minute, at which they last 0.4 to 0.6 s."""


def say(text: str, name: str) -> dict[str, Any]:
    """A spoken step."""
    return {"do": "say", "text": text, "name": name}


def murmur(index: int) -> dict[str, Any]:
    """A listener's word."""
    text, rate = BACKCHANNELS[index]
    return say(text, "backchannel") | {"rate": rate}


def heard_out() -> list[dict[str, Any]]:
    """Listen until the agent has ended."""
    return [{"do": "wait_agent_speaking", "ms": 300}, {"do": "wait_agent_silent", "ms": SETTLED_MS}]


def listen(ms: int) -> list[dict[str, Any]]:
    """Listen to the agent for this long."""
    return [{"do": "wait_agent_speaking", "ms": ms}]


def pause(ms: int) -> list[dict[str, Any]]:
    """Say nothing for this long."""
    return [{"do": "pause", "ms": ms}]


def farewell() -> list[dict[str, Any]]:
    """Say goodbye, hear the answer, hang up."""
    return [say("thank you goodbye", "goodbye"), *listen(600), *pause(2500), {"do": "hang_up"}]


def script(name: str, steps: list[dict[str, Any]], limit_ms: int = LIMIT_MS) -> dict[str, Any]:
    """A script document."""
    return {"name": name, "limit_ms": limit_ms, "timeout_ms": TIMEOUT_MS, "steps": steps}


def demo_script() -> dict[str, Any]:
    """The scripted call of ``make demo``, a little over a minute."""
    steps = [
        *heard_out(),
        say("what are your opening hours", "question"),
        *heard_out(),
        say("tell me about your restaurant", "ask"),
        *listen(4000),
        say("what is your address", "interruption"),
        *heard_out(),
        say("tell me the history of the house", "ask"),
        *listen(2200),
        {"do": "cough", "ms": 250, "name": "cough"},
        *pause(2800),
        murmur(0),
        *pause(2500),
        {"do": "wait_agent_silent", "ms": SETTLED_MS + 400},
        say("i would like to book a table", "broken"),
        *pause(THINKING_PAUSE_MS),
        say("for four people", "rest"),
        *heard_out(),
        *farewell(),
    ]
    return script("demo", steps)


def interruptions_script(count: int) -> dict[str, Any]:
    """Ask for a long answer and interrupt it, ``count`` times, each time at another place of it."""
    steps = [*heard_out()]
    for index in range(count):
        steps.append(say(LONG_QUESTIONS[index % len(LONG_QUESTIONS)], "ask"))
        # A step that shares no factor with the words' rhythm spreads the onsets over the speech.
        steps += listen(900 + index * 173 % 1700)
        steps.append(say(INTERRUPTIONS[index % len(INTERRUPTIONS)], "interruption"))
        steps += heard_out()
    return script("interruptions", [*steps, *farewell()], limit_ms=60_000 + count * 20_000)


def backchannels_script(count: int) -> dict[str, Any]:
    """Hear a long answer out ``count`` times with a cough, two backchannels and a click in each."""
    steps = [*heard_out()]
    for index in range(count):
        steps.append(say(LONG_QUESTIONS[index % len(LONG_QUESTIONS)], "ask"))
        steps += listen(1500 + index * 173 % 700)
        steps += [{"do": "cough", "ms": 200, "name": "cough"}, *pause(2600)]
        steps += [murmur(0), *pause(2600)]
        steps += [{"do": "click", "name": "click", "level": 0.6}, *pause(2600)]
        steps += [murmur(1), *pause(1500)]
        steps.append({"do": "wait_agent_silent", "ms": SETTLED_MS + 400})
    return script("backchannels", [*steps, *farewell()], limit_ms=60_000 + count * 40_000)


def tones_script(count: int) -> dict[str, Any]:
    """Send short tones to an echo, at uneven distances so that no two figures share a phase."""
    steps: list[dict[str, Any]] = [{"do": "wait_agent_present"}, *pause(1500)]
    for index in range(count):
        steps.append({"do": "tone", "ms": 60, "hz": 1000, "name": "tone"})
        steps += pause(437 + index * 13)
    return script("tones", [*steps, {"do": "hang_up"}])
