"""Reading a page as a browser would, and calls to draw."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

from tests.e2e.fake_call import HOSTILE, START_WALL_MS

VOID = {"meta", "br", "input"}
Record = dict[str, Any]


class Page(HTMLParser):
    """The elements of a page; a tag that is not closed in order fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.words.append(data)

    def names(self) -> set[str]:
        return {tag for tag, _ in self.tags}

    def ids(self) -> list[str]:
        return [
            value for _, attributes in self.tags for key, value in attributes.items() if key == "id" and value
        ]

    @property
    def shown(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def data(self) -> dict[str, Any]:
        found = re.search(r'<script type="application/json" id="data">(.*?)</script>', self.text, re.DOTALL)
        assert found is not None
        value = json.loads(found.group(1))
        assert isinstance(value, dict)
        return value


def check_alone(page: Page) -> None:
    """Assert that a page loads nothing, runs its one script only, and became nothing that somebody said."""
    assert not {"link", "iframe", "object", "embed", "img", "base", "form"} & page.names()
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "action"):
            assert str(attributes.get(name) or "data:").startswith("data:")
    without_data = page.text.replace(
        page.text[page.text.index('id="data">') : page.text.rindex("<script>")], ""
    )
    assert not re.search(r"url\(|@import|https?:", without_data)
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    run = page.text[page.text.rindex("<script>") + 8 : page.text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(run.encode()).digest()).decode()
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}';")
    assert len(page.ids()) == len(set(page.ids()))


def at(ms: int) -> dict[str, int]:
    return {"at_us": 7_000_000 + ms * 1000, "wall_ms": START_WALL_MS + ms}


def header(epoch: int = 1, ms: int = 0, *, session: str = "call") -> Record:
    place = {"started_us": 7_000_000 + ms * 1000, "started_wall_ms": START_WALL_MS + ms}
    lease = {"kind": "header", "session_id": session, "pipeline": "desk@v1", "epoch": epoch}
    return lease | place


def turn(
    number: int, opened: int, ended: int, outcome: str = "commit", reason: str = "", epoch: int = 1
) -> list[Record]:
    """The records of a turn, with one call of each provider."""
    move = {"kind": "transition", "turn": number}
    key = f"turn-{epoch}-{number}"

    def signal(name: str, ms: int, **more: str) -> Record:
        return {
            "kind": "signal",
            "event": {"signal": name, "turn_id": key, "authority_epoch": epoch, **more},
        } | at(ms)

    def attempt(modality: str, ms: int, took: int, result: str = "success") -> Record:
        pvi = f"pvi/call/{epoch}/{number}/{modality}"
        called = {
            "kind": "provider_attempt",
            "turn": number,
            "provider_invocation_id": pvi,
            "modality": modality,
        }
        ending = {
            "provider_id": f"{modality}-one",
            "attempt": 1,
            "outcome": result,
            "attempt_latency_us": took * 1000,
        }
        return called | ending | {"retry_decision": "none"} | at(ms)

    latencies = {"end_of_speech_to_turn_open": 190_000, "turn_open_to_first_output": 60_000}
    latencies |= {"llm_first_word": 20_000, "tts_first_audio": 30_000}
    plan = {
        "kind": "marker",
        "turn": number,
        "name": "plan_frozen",
        "value": 1,
        "plan_hash": f"{number:064x}",
    }
    decision = {
        "outcome_kind": "admit",
        "phase": "pre_turn",
        "turn_id": key,
        "reason": "admission_capacity_allow",
    }
    end = signal("abort", ended, reason=reason) if outcome == "abort" else signal("commit", ended)
    return [
        move | {"from": "Idle", "trigger": "turn_open_proposed", "to": "Opening"} | at(opened),
        {"kind": "decision", "decision": decision} | at(opened),
        plan | at(opened),
        move | {"from": "Opening", "trigger": "turn_open", "to": "Active"} | at(opened),
        {"kind": "marker", "turn": number, "name": "first_output", "value": 0} | at(opened + 60),
        *(
            {"kind": "latency", "turn": number, "name": name, "value_us": us} | at(opened + 60)
            for name, us in latencies.items()
        ),
        attempt("llm", opened + 300, 300),
        attempt("tts", opened + 500, 450, "timeout" if outcome == "abort" else "success"),
        end,
        move | {"from": "Active", "trigger": outcome, "to": "Terminal"} | at(ended),
        move | {"from": "Terminal", "trigger": "close", "to": "Closed"} | at(ended),
    ]


def an_hour() -> list[Record]:
    """The records of a call of an hour, which takes a turn every six seconds."""
    records = [header()]
    voice = {"kind": "input", "name": "voice_activity", "permille": 900, "media_sample": 0}
    for number in range(1, 601):
        begins = number * 6_000
        records += turn(number, begins, begins + 4_000)
        records += [voice | at(begins + 100 * window) for window in range(60)]
    return records


def takeover_call() -> list[Record]:
    """A call of two runtimes, with a hold, a barge-in, pressure, frames and a gap."""
    lease = {"kind": "marker", "turn": 0, "name": "lease_granted"}
    frame = {"kind": "input", "name": "frame", "turn": 1, "epoch": 1, "samples": 480, "verdict": "pass"}
    words = {"kind": "transcript", "party": "caller", "turn": 1, "text": "", "words": 5, "final": True}
    hold = {"kind": "marker", "turn": 2, "name": "output_held", "value": 1}
    barge = {"signal": "barge_in", "turn_id": "turn-1-2"}
    flow = {"signal": "flow_xoff", "edge_id": "tts->playout"}
    drop = {"signal": "drop_notice", "edge_id": "tts->playout", "seq_range": {"start": 3, "end": 6}}
    voice = {"kind": "input", "name": "voice_activity", "media_sample": 0}
    return [
        header(),
        lease | {"value": 1} | at(1),
        voice | {"permille": 40} | at(120),
        voice | {"permille": 900} | at(150),
        {"kind": "marker", "turn": 0, "name": "utterance_started", "value": 1} | at(200),
        {"kind": "marker", "turn": 0, "name": "utterance_ended", "value": 1} | at(900),
        *turn(1, 1_000, 3_000),
        *(frame | {"sequence": n} | at(1_060 + 20 * n) for n in range(40)),
        frame | {"sequence": 40, "verdict": "fenced"} | at(1_880),
        words | at(1_000),
        {"kind": "pressure", "edge": "tts->playout", "queued_ms": 700, "shed": 4} | at(2_000),
        {"kind": "signal", "event": flow} | at(2_000),
        {"kind": "signal", "event": drop} | at(2_000),
        hold | at(4_500),
        {"kind": "signal", "event": barge} | at(4_700),
        *turn(2, 4_000, 4_700, "abort", "cancelled"),
        {"kind": "gap", "records": 12} | at(5_000),
        header(2, 9_000),
        lease | {"value": 2} | at(9_001),
        *turn(1, 9_500, 11_000, "abort", HOSTILE, epoch=2),
    ]
