"""The page of a call: whole, alone, safe whatever a caller says, and true to the records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from rspp.evidence.reader import open_recording
from rspp.tooling.call_page import builder as builder_module
from rspp.tooling.call_page import document as document_module
from rspp.tooling.call_page import turns as turns_module
from rspp.tooling.call_page.builder import build_call
from rspp.tooling.call_page.document import call_document, embedded
from rspp.tooling.call_page.model import SHED, Damage
from rspp.tooling.call_page.page import call_page, write_whole
from rspp.tooling.call_page.room import SHED_FIRST
from rspp.tooling.call_page.source import load_call, model_of
from rspp.tooling.call_page.turns import stages
from tests.e2e.fake_call import HOSTILE, timeline
from tests.evidence.recordings import marks, record
from tests.tooling.pages import Page, an_hour, at, check_alone, header, takeover_call, turn

if TYPE_CHECKING:
    from pathlib import Path


def hostile_call() -> list[dict[str, Any]]:
    records = [header(session=HOSTILE), *turn(1, 1_000, 2_000, "abort", HOSTILE), *timeline()[1:]]
    records.append({"kind": "pressure", "edge": HOSTILE, "queued_ms": 3, "shed": 0} | at(20_000))
    return records


def test_nothing_that_anybody_said_becomes_part_of_the_page() -> None:
    model = build_call(hostile_call(), damage=[Damage(HOSTILE, HOSTILE, HOSTILE)])
    page = Page(call_page(model, title=HOSTILE, lead=HOSTILE, verdict=(False, HOSTILE), replay=HOSTILE))
    check_alone(page)
    assert page.shown.count(HOSTILE) >= 6
    assert page.data["session_id"] == HOSTILE
    assert "</script><img" not in page.text


def test_a_usual_call_is_a_valid_page_and_the_same_each_time() -> None:
    first = call_page(build_call(takeover_call()), replay="identical")
    check_alone(Page(first))
    assert first == call_page(build_call(takeover_call()), replay="identical")


def test_turns_of_two_epochs_with_one_number_are_two_turns() -> None:
    model = build_call(takeover_call())
    assert [(one.key, one.ending) for one in model.ordered] == [
        ("turn-1-1", "said in full"),
        ("turn-1-2", "interrupted"),
        ("turn-2-1", f"aborted: {HOSTILE}"),
    ]
    assert [(stint.epoch, stint.begin_us, stint.end_us, stint.resumed) for stint in model.stints] == [
        (1, 0, 9_000_000, False),
        (2, 9_000_000, 11_000_000, True),
    ]
    leases = [(span.name, span.begin_us, span.end_us) for span in model.spans if span.row == "authority"]
    assert leases == [("epoch 1", 1_000, 9_000_000), ("epoch 2", 9_001_000, None)]
    assert [mark.name for mark in model.marks if mark.row == "authority"] == ["takeover"]


def test_the_page_shows_what_the_records_say() -> None:
    page = Page(call_page(build_call(takeover_call()), replay="identical"))
    for words in (
        "recording: 12 records missing",
        "replay: identical",
        "1 takeover",
        "1 barge-in",
        "5 words; not kept at this level",
        "held 1 time",
        "Turn 1 epoch 2",
    ):
        assert words in page.shown
    data = page.data
    assert [row["id"] for row in data["rows"]][-2:] == ["edge:tts->playout", "missing"]
    assert data["edges"] == [
        {
            "name": "tts->playout",
            "shed": 4,
            "stops": 1,
            "drops": 4,
            "depth": [[2_000_000, 700, data["edges"][0]["depth"][0][2]]],
        }
    ]
    first = data["turns"][0]
    assert first["plan_hash"] == f"{1:064x}"
    assert first["speech_end_us"] == 810_000
    assert [(one["modality"], one["begin_us"], one["end_us"]) for one in first["attempts"]] == [
        ("llm", 1_000_000, 1_300_000),
        ("tts", 1_050_000, 1_500_000),
    ]
    assert data["turns"][1]["holds"] == [[4_500_000, 4_700_000]]
    assert data["voice"]["permille"][:2] == [0, 900]


def test_every_element_leads_to_the_records_behind_it() -> None:
    data = call_document(build_call(takeover_call()))
    records = data["records"]
    marks_by_name = {mark["name"]: mark for mark in data["marks"]}
    behind = [records[place]["record"] for place in marks_by_name["decision: admit"]["records"]]
    assert behind[0]["decision"]["reason"] == "admission_capacity_allow"
    assert records[marks_by_name["flow xoff"]["records"][0]]["record"]["event"]["edge_id"] == "tts->playout"
    depth = data["edges"][0]["depth"][0]
    assert records[depth[2]]["record"]["kind"] == "pressure"
    for element in (*data["spans"], *data["marks"], *data["turns"]):
        assert element["records"]
        assert all(0 <= place < len(records) for place in element["records"])
    source = takeover_call()
    assert all(source[entry["index"]] == entry["record"] for entry in records)


def test_frames_are_summed_up_by_verdict() -> None:
    data = call_document(build_call(takeover_call()))
    assert [(run["verdict"], run["frames"], run["samples"]) for run in data["frames"]] == [
        ("pass", 40, 19_200),
        ("fenced", 1, 480),
    ]
    assert data["counts"]["input:frame"] == 41
    assert all(entry["record"].get("name") != "frame" for entry in data["records"])


def test_a_turn_that_a_killed_runtime_left_open_ends_with_it() -> None:
    records = [header(), *turn(1, 1_000, 3_000)[:8], header(2, 6_000), *turn(1, 7_000, 8_000, epoch=2)]
    model = build_call(records)
    assert model.ordered[0].ending == "not ended"
    assert model.end_of(model.ordered[0]) == 6_000_000
    assert max(span.end_us or 0 for span in model.spans if span.turn == "turn-1-1") == 6_000_000


def test_the_clock_of_another_machine_is_placed_by_the_wall_clock() -> None:
    second = header(2) | {
        "started_us": 99_000_000_000,
        "started_wall_ms": header()["started_wall_ms"] + 4_000,
    }
    late = {"kind": "gap", "records": 1, "at_us": 99_000_500_000, "wall_ms": second["started_wall_ms"] + 500}
    model = build_call([header(), *turn(1, 1_000, 3_000), second, late])
    assert model.duration_us == 4_500_000


def test_the_stages_of_a_wait_add_up() -> None:
    view = build_call([header(), *turn(1, 1_000, 3_000)]).ordered[0]
    assert stages(view) == [190, 20, 30, 10, 0]
    assert stages(view, 400) == [190, 20, 30, 10, 150]
    view.latencies["llm_first_word"] = 900_000
    assert all(value >= 0 for value in stages(view, 100))


@pytest.mark.parametrize(
    "records",
    [
        [],
        [header()],
        [{}],
        [{"kind": "of tomorrow", "turn": "x"}],
        [{"kind": kind, "turn": "?", "event": [], "decision": 3, "at_us": None, "name": None} for kind in
         ("header", "signal", "decision", "transition", "marker", "input", "provider", "provider_attempt",
          "latency", "transcript", "pressure", "gap")],
        [header(), {"kind": "input", "name": "voice_activity", "at_us": 2**62, "permille": "loud"}],
        [{"kind": "signal", "event": {"signal": "drop_notice", "edge_id": ["x"], "seq_range": 1}}],
    ],
)  # fmt: skip
def test_an_empty_or_strange_recording_is_still_a_page(records: list[dict[str, Any]]) -> None:
    check_alone(Page(call_page(build_call(records))))


def test_damage_is_named_on_the_page(tmp_path: Path) -> None:
    folder = record(tmp_path, marks(0, 3), marks(3, 3), marks(6, 3))
    segment = next(folder.glob("*.segment"))
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 0xFF
    segment.write_bytes(content)
    model = load_call(folder)
    assert model.damage
    page = Page(call_page(model))
    check_alone(page)
    assert model.damage[0].code in page.shown
    assert segment.name in page.shown
    assert "recording: damaged in" in page.shown


def test_a_recording_from_disk_names_session_tenant_and_level(tmp_path: Path) -> None:
    model = model_of(open_recording(record(tmp_path, marks(0, 3))))
    assert (model.session_id, model.tenant, model.level, model.integrity) == (
        "call",
        "default",
        "L0",
        "complete",
    )


def test_what_a_page_leaves_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_module, "MAX_RECORDS", 30)
    data = call_document(build_call(takeover_call()))
    assert len(data["records"]) == 30
    assert data["left_out"]["latency"] == 12
    assert sum(data["left_out"].values()) + 30 == len(build_call(takeover_call()).records)
    assert all(mark["records"] for mark in data["marks"])
    spans = [span for span in build_call(takeover_call()).spans if span.records]
    assert 0 < len([span for span in data["spans"] if span["records"]]) < len(spans)
    assert len(data["spans"]) < len(spans)
    assert "leaves out records" in Page(call_page(build_call(takeover_call()))).shown


@pytest.mark.parametrize("most", [0, 1, 12, 30, 45, 1_000])
def test_a_model_made_for_a_page_keeps_what_the_page_would_choose(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded = build_call(takeover_call(), most=most)
    assert sum(kept is not SHED for kept in bounded.records) <= most
    monkeypatch.setattr(document_module, "MAX_RECORDS", most)
    whole, data = call_document(build_call(takeover_call())), call_document(bounded)
    assert {name: whole[name] for name in whole if name != "spans"} == {
        name: data[name] for name in data if name != "spans"
    }
    # What lasted is still drawn where the record that it began with had to go.
    assert all(span in data["spans"] for span in whole["spans"])


def test_a_model_made_for_a_page_does_not_grow_with_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder_module, "MAX_RUNS", 5)
    sizes = []
    for turns in (20, 40):
        pressure = {"kind": "pressure", "edge": "playout", "queued_ms": 7}
        frame = {"kind": "input", "name": "frame", "verdict": "pass", "samples": 480}
        call = {"kind": "provider", "modality": "llm", "outcome": "success", "latency_us": 9}
        records = [header()]
        for number in range(1, turns + 1):
            records += turn(number, number * 6_000, number * 6_000 + 4_000)
            records += [pressure | at(number * 6_000), frame | {"turn": number} | at(number * 6_000)]
            records += [call | {"turn": number} | at(number * 6_000)]
        model = build_call(records, most=50)
        data = call_document(model, most_turns=10)
        parts = [len(data[part]) for part in ("records", "turns", "spans", "marks", "frames")]
        drawn = [span for span in model.spans if span.row != "agent"]
        sizes.append([*parts, len(model.marks), len(drawn), sum(len(view.records) for view in model.ordered)])
        assert all(model.records[mark.records[0]] is not SHED for mark in model.marks)
        assert (len(model.frames), len(model.edges["playout"].depth)) == (5, 5)
        assert sum(kept is not SHED for kept in model.records) == 50
        assert len(model.records) <= 50 * (1 + len(SHED_FIRST))
        assert data["left_out"]["turns"] == turns - 10
        assert data["left_out"]["runs of frames"] == data["left_out"]["depths of edges"] == turns - 5
        assert all(one["turn"] in {view["key"] for view in data["turns"]} for one in data["spans"])
    assert sizes[0] == sizes[1]


def test_the_first_turns_are_shown_and_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "MAX_TURNS", 3)
    records = [header(), *(record for number in range(1, 6) for record in turn(number, number * 1_000, 0))]
    text = call_page(build_call(records))
    assert text.count('<article class="card turn"') == 3
    assert "The first 3 of 5 turns" in Page(text).shown
    assert "all 3 turns" in text
    monkeypatch.setattr(turns_module, "MAX_TURNS", 5)
    assert "The first" not in Page(call_page(build_call(records))).shown


def test_an_hour_of_a_call_is_a_page_that_a_browser_can_hold() -> None:
    text = call_page(build_call(an_hour()))
    assert len(text) < 12_000_000
    assert len(Page(text).data["turns"]) == 600


def test_embedded_data_reads_back_and_closes_no_element() -> None:
    odd = {"text": "</script><!-- \u2028 & \ud800 é"}
    text = embedded(odd)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text)["text"].startswith("</script><!-- \u2028 & ")


def test_a_page_is_written_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "page.html", "page")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]


def test_a_recording_that_was_not_closed_is_not_called_good_and_a_long_reason_stands_among_the_facts() -> (
    None
):
    model = build_call([header(), *turn(1, 1_000, 2_000, "commit", "")], sealed=False)
    page = call_page(model, replay="not possible: the header of kept/000001 cannot be read")
    assert '<span class="chip open tag">recording: not closed</span>' in page
    assert '<span class="chip bad tag">replay: not possible</span>' in page
    assert "<dd>not possible: the header of kept/000001 cannot be read</dd>" in page


def test_words_that_are_kept_are_not_said_to_be_missing(tmp_path: Path) -> None:
    said = {"kind": "transcript", "turn": 1, "party": "agent", "text": "", "words": 4, "final": True}
    records = [*turn(1, 1_000, 2_000, "commit", ""), said | at(1_500)]
    folder = record(tmp_path, [json.dumps(one).encode() for one in records])
    assert "4 words; not kept at this level" in call_page(load_call(folder))
    payload = folder / "payloads" / "t000001.text_raw.payload"
    payload.parent.mkdir()
    payload.write_bytes(b"")
    assert "4 words; shown to who gives a purpose" in call_page(load_call(folder))
    asked = open_recording(folder)
    assert "4 words; not kept at this level" in call_page(model_of(asked, asked.records()))
