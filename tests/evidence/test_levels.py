"""Recording levels: how a call begins, when its level goes down, and that it never goes up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from rspp.contracts.errors import ConfigurationError
from rspp.evidence.levels import MINUTE_MS, RecordingLevel, RecordingOverride
from rspp.pipeline.loader import parse_pipeline
from rspp.pipeline.normalise import recording_level

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rspp.pipeline.spec import PipelineSpec

RULES = {"provider": "rules", "rules": [{"hear": "hello", "say": "Hi."}]}
NOW = 1_700_000_000_000
FULL = {"level": "L2", "approval": "head of care", "allow": ["text_raw"]}


def spec_of(recording: Mapping[str, object]) -> PipelineSpec:
    return parse_pipeline(yaml.safe_dump({"name": "x", "llm": RULES, "recording": recording}), "f.yaml")


def test_l1_ends_by_itself_to_the_millisecond() -> None:
    level = RecordingLevel.of(spec_of({"level": "L1", "until_minutes": 2}), wall_ms=NOW)
    assert level.tick(NOW + 2 * MINUTE_MS - 1) is None
    step = level.tick(NOW + 2 * MINUTE_MS)
    assert step
    assert (step.from_level, step.to_level, step.reason) == ("L1", "L0", "level_time_over")
    assert level.level == "L0"
    assert level.tick(NOW + 3 * MINUTE_MS) is None
    assert level.downgrades == [step]


def test_a_level_never_goes_up_while_the_call_runs() -> None:
    level = RecordingLevel.of(spec_of(FULL), wall_ms=NOW)
    assert level.lower("L0", "payload_store_unavailable", NOW) is not None
    for higher in ("L1", "L2"):
        with pytest.raises(ConfigurationError, match=f"{higher} is above L0"):
            level.lower(higher, "operator_request", NOW)
    assert level.level == "L0"


def test_l2_without_a_window_goes_down_to_l0_and_not_to_an_endless_l1() -> None:
    level = RecordingLevel.of(spec_of(FULL), wall_ms=NOW)
    step = level.lower("L1", "stage_a_detail_overflow", NOW)
    assert step is not None
    assert step.to_level == "L0"


def test_what_is_wanted_follows_level_and_tenant() -> None:
    full = RecordingLevel.of(spec_of(FULL), wall_ms=NOW)
    assert full.action("text_raw") == "allow"
    assert full.action("audio_raw") == "hash"
    assert full.wants("audio_raw")
    full.lower("L0", "operator_request", NOW)
    assert not any(full.wants(name) for name in ("text_raw", "audio_raw", "PHI"))
    assert full.wants("PII")  # as a hash
    decided = {decision.payload_class: decision.action for decision in full.decided()}
    assert decided["PHI"] == "drop"
    assert decided["metadata"] == "allow"


def test_an_operators_window_ends_for_all_calls_at_once() -> None:
    asked = RecordingOverride.asked("L1", minutes=10, approval="", wall_ms=NOW)
    assert asked is not None
    late = NOW + 9 * MINUTE_MS
    spec = asked.applied(spec_of({}), late)
    assert recording_level(spec) == "L1"
    level = RecordingLevel.of(spec, wall_ms=late, override=asked)
    assert level.tick(NOW + 10 * MINUTE_MS) is not None
    over = asked.applied(spec_of(FULL), NOW + 10 * MINUTE_MS)
    assert recording_level(over) == "L0"
    assert over.recording.allow == ()


def test_an_operator_cannot_widen_what_the_tenant_has_kept_in_full() -> None:
    asked = RecordingOverride.asked("L2", minutes=0, approval="incident 7", wall_ms=NOW)
    assert asked is not None
    assert RecordingLevel.of(asked.applied(spec_of({}), NOW), wall_ms=NOW).action("text_raw") == "mask"
    assert RecordingLevel.of(asked.applied(spec_of(FULL), NOW), wall_ms=NOW).action("text_raw") == "allow"


@pytest.mark.parametrize(
    ("level", "minutes", "approval", "named"),
    [
        ("L3", 0, "", "--record 'L3'"),
        ("L1", 0, "", "--record-minutes 0"),
        ("L1", 10_081, "", "--record-minutes 10081"),
        ("L0", 5, "", "--record-minutes 5"),
        ("", 5, "", "--record-minutes 5"),
        ("L2", 0, " ", "--record L2 has no approval"),
        ("L1", 5, "me", "--record-approval belongs to level L2"),
    ],
)
def test_flags_that_do_not_belong_together_are_refused(
    level: str, minutes: int, approval: str, named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        RecordingOverride.asked(level, minutes=minutes, approval=approval, wall_ms=NOW)
    assert caught.value.hint


def test_without_flags_the_pipeline_file_stands() -> None:
    assert RecordingOverride.asked("", minutes=0, approval="", wall_ms=NOW) is None


def test_l1_without_an_end_is_no_level() -> None:
    with pytest.raises(ConfigurationError, match="no end"):
        RecordingLevel("L1")
