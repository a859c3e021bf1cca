"""What a pipeline file may say of its recording."""

from __future__ import annotations

import pytest
import yaml

from rspp.pipeline.loader import PipelineError, parse_pipeline
from rspp.pipeline.normalise import key_variables, plan_policy, recording_level, with_defaults

RULES = {"provider": "rules", "rules": [{"hear": "hello", "say": "Hi."}]}
DEBUGGING = {"name": "debugging", "recording": {"level": "L1"}}


def text_of(recording: dict[str, object], **more: object) -> str:
    return yaml.safe_dump({"name": "x", "llm": RULES, "recording": recording, **more})


def test_the_level_is_l0_unless_file_or_profile_says_otherwise() -> None:
    plain = parse_pipeline(text_of({}), "f.yaml")
    assert recording_level(plain) == "L0"
    assert with_defaults(plain).recording.level == "L0"
    own = parse_pipeline(
        text_of({"until_minutes": 30}, profile="debugging", profiles={"debugging": DEBUGGING}), "f.yaml"
    )
    assert recording_level(own) == "L1"
    assert plan_policy(own)["recording_policy"]["recording_level"] == "L1"


def test_a_level_of_the_file_goes_before_the_profiles() -> None:
    spec = parse_pipeline(
        text_of({"level": "L0"}, profile="debugging", profiles={"debugging": DEBUGGING}), "f.yaml"
    )
    assert recording_level(spec) == "L0"


@pytest.mark.parametrize(
    ("recording", "path", "problem"),
    [
        ({"level": "L1"}, "recording.until_minutes", "required at level L1"),
        ({"level": "L2"}, "recording.approval", "required at level L2"),
        ({"level": "L2", "approval": "  "}, "recording.approval", "required at level L2"),
        ({"until_minutes": 5}, "recording.until_minutes", "only level L1 ends by itself"),
        ({"allow": ["text_raw"]}, "recording.allow", "only level L2 keeps anything in full"),
        (
            {"level": "L2", "approval": "head of care", "allow": ["text_raw", "text_raw"]},
            "recording.allow",
            "text_raw is listed twice",
        ),
    ],
)
def test_what_contradicts_its_level_is_named_with_a_remedy(
    recording: dict[str, object], path: str, problem: str
) -> None:
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(text_of(recording), "f.yaml")
    (fault,) = caught.value.faults
    assert fault.path == path
    assert problem in fault.problem
    assert fault.hint


def test_a_profile_at_l1_asks_the_file_for_its_end() -> None:
    with pytest.raises(PipelineError, match="until_minutes: required at level L1"):
        parse_pipeline(text_of({}, profile="debugging", profiles={"debugging": DEBUGGING}), "f.yaml")


def test_the_variables_with_the_keys_of_all_candidates_are_known() -> None:
    spec = parse_pipeline(
        yaml.safe_dump(
            {
                "name": "x",
                "llm": [{"provider": "openai", "model": "m", "api_key_env": "MODEL_ACCESS"}, RULES],
                "stt": {"provider": "openai", "model": "m"},
                "tts": {"provider": "openai", "model": "m", "api_key_env": ""},
            }
        ),
        "f.yaml",
    )
    assert key_variables(spec) == ("MODEL_ACCESS", "OPENAI_API_KEY")
    assert key_variables(parse_pipeline(text_of({}), "f.yaml")) == ()
