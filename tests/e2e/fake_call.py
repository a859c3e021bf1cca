"""A made-up call of known truth: recording, caller's events and runtime's timeline."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from rspp.tooling.caller.recording import write_wav
from rspp.tooling.caller.sound import RATE_HZ, tone
from rspp.tooling.room_call import CallResult, load_call, write_json

if TYPE_CHECKING:
    from pathlib import Path

START_WALL_MS = 1_700_000_000_000
LENGTH_MS = 24_000
HOSTILE = "</script><img src=x onerror=alert(1)> & \"quotes\" 'too'"

CALLER = [(3000, 4500, "question", "what are your opening hours"), (9000, 10_500, "interrupt", HOSTILE)]
AGENT = [(1000, 2500), (4900, 9150), (10_950, 14_000), (15_000, 19_000)]


def _voice(spans: list[tuple[int, int]]) -> np.ndarray:
    pcm = np.zeros(RATE_HZ * LENGTH_MS // 1000, dtype=np.int16)
    for begin, end in spans:
        sound = tone(220, end - begin, 0.4)
        pcm[RATE_HZ * begin // 1000 :][: sound.size] = sound
    return pcm


def make_call(folder: Path) -> CallResult:
    """Write the caller's side of the call and read it back."""
    folder.mkdir(parents=True, exist_ok=True)
    write_wav(folder / "call.wav", [_voice([(b, e) for b, e, _, _ in CALLER]), _voice(AGENT)])
    write_json(folder / "caller.json", {"outcome": "completed", "samples": RATE_HZ * LENGTH_MS // 1000})
    events: list[dict[str, Any]] = [{"event": "started", "wall_ms": START_WALL_MS, "rate_hz": RATE_HZ}]
    for index, (begin, end, name, text) in enumerate(CALLER):
        step = {"index": index, "do": "say", "name": name, "text": text}
        span = {"from": RATE_HZ * begin // 1000, "to": RATE_HZ * end // 1000}
        events.append({"event": "step", "wall_ms": START_WALL_MS + end, **step, **span})
    cough = {"index": 2, "do": "cough", "name": "cough", "text": ""}
    events.append({"event": "step", **cough, "from": RATE_HZ * 16, "to": RATE_HZ * 16 + 4800})
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), "utf-8")
    return load_call(folder)


def timeline() -> list[dict[str, Any]]:
    """The runtime's records of the same call, in the order that they were made."""
    records: list[dict[str, Any]] = [
        {
            "kind": "header",
            "session_id": "call-1",
            "pipeline": "front-desk@v1",
            "started_wall_ms": START_WALL_MS,
        }
    ]

    def at(ms: int) -> dict[str, int]:
        return {"at_us": ms * 1000, "wall_ms": START_WALL_MS + ms}

    def turn(
        number: int, opened: int, first: int, closed: int, outcome: str, caller: str, agent: str
    ) -> None:
        move = {"kind": "transition", "turn": number}
        records.append(move | {"from": "Opening", "trigger": "turn_open", "to": "Active"} | at(opened))
        records.append({"kind": "marker", "turn": number, "name": "first_output", "value": 1} | at(first))
        if caller:
            said = {"kind": "transcript", "party": "caller", "turn": number, "text": caller, "final": True}
            records.append(said | at(opened))
            for name, value in (
                ("end_of_speech_to_turn_open", 190_000),
                ("llm_first_word", 1_000),
                ("tts_first_audio", 14_000),
                ("turn_open_to_first_output", 22_000),
            ):
                records.append(
                    {"kind": "latency", "turn": number, "name": name, "value_us": value} | at(first)
                )
        if outcome == "abort":
            event = {"signal": "abort", "turn_id": f"turn-1-{number}", "reason": "cancelled"}
            records.append({"kind": "signal", "event": event} | at(closed))
        records.append(move | {"from": "Active", "trigger": outcome, "to": "Terminal"} | at(closed))
        records.append(move | {"from": "Terminal", "trigger": "close", "to": "Closed"} | at(closed))
        heard = {"kind": "transcript", "party": "agent", "turn": number, "text": agent, "final": True}
        records.append(heard | at(closed))

    turn(1, 900, 950, 2500, "commit", "", "Good evening, this is the Harbour House. How can I help you?")
    records.append({"kind": "marker", "turn": 0, "name": "utterance_started", "value": 1} | at(3080))
    records.append({"kind": "marker", "turn": 0, "name": "utterance_ended", "value": 1} | at(4690))
    records.append({"kind": "marker", "turn": 2, "name": "output_held", "value": 0} | at(9090))
    turn(2, 4700, 4850, 9400, "abort", "what are your opening hours", "We are open from five in the")
    turn(3, 10_700, 10_900, 14_000, "commit", HOSTILE, "Sorry, I did not understand that.")
    records.append({"kind": "marker", "turn": 4, "name": "output_held", "value": 0} | at(16_100))
    records.append({"kind": "marker", "turn": 4, "name": "output_released", "value": 0} | at(16_400))
    turn(
        4,
        14_700,
        14_950,
        19_000,
        "commit",
        "tell me more",
        "The house was built by a captain who was tired of it.",
    )
    records.append({"kind": "pressure", "edge": "speech", "queued_ms": 40, "shed": 0} | at(20_000))
    return records
