"""A turn whose language model fails goes on with what the pipeline declares for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from rspp._kernel import Replay
from rspp.contracts.errors import ConfigurationError, ProviderError
from rspp.pipeline.spec import PipelineSpec
from rspp.providers.fixed import FixedResponder
from rspp.providers.registry import open_providers
from rspp.replay.inputs import kernel_arguments
from rspp.session.offload import InlineOffloader
from rspp.session.virtual_time import run_virtual
from rspp.tooling.fault_call import ASK, QUESTION, FaultCall
from rspp.tooling.faults import FaultResponder
from tests.session.fakes import FakeResponder, FakeWorld
from tests.session.test_provider_failover import FlakyResponder, attempts, refusal, server_error, world

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rspp.contracts.ports import Responder

APOLOGY = "I cannot look that up just now."
DEGRADED = {"llm": {"provider": "fixed", "say": APOLOGY}}
ALLOWED = ("retry", "degrade", "fallback")
TOLD = ("provider_error", "provider_switch", "budget_exhausted", "degrade", "fallback", "commit", "abort")
QUIET = {"do": "wait_agent_silent", "ms": 900}
AGAIN = ({"do": "say", "text": QUESTION}, {"do": "wait_agent_speaking", "ms": 500}, {"do": "hang_up"})


def asked_twice(faults: Sequence[ProviderError | str], **settings: Any) -> FaultCall:
    """A call with real components in which a question is asked twice and the first reply fails."""

    def faulty(real: Responder) -> FaultResponder:
        return FaultResponder(real, faults)

    steps = (*ASK, {"do": "wait_agent_speaking", "ms": 300}, QUIET, *AGAIN)
    declared = {"adaptive_actions": ALLOWED, "degraded": DEGRADED, **settings}
    return FaultCall(steps, declared, responder=faulty)


def writers(call: FaultCall | FakeWorld) -> list[str]:
    records = call.records if isinstance(call, FaultCall) else call.timeline.records
    found = [record for record in records if record["kind"] == "provider_attempt"]
    return [record["provider_id"] for record in found if record["modality"] == "llm"]


def said(call: FaultCall) -> list[str]:
    return [text for of_caller, text in call.caller.transcripts if not of_caller]


def assert_replays(call: FaultCall) -> None:
    replay = Replay(**kernel_arguments(call.timeline.headers[0]))
    for block in call.timeline.blocks:
        replay.feed(block)
    replay.finish()
    assert list(replay.divergences) == []


def test_a_refused_reply_is_the_declared_sentence_and_the_next_one_the_models_again() -> None:
    call = asked_twice([refusal()]).hold().check()
    assert call.signals(*TOLD) == [
        ("provider_error", "provider_auth_or_policy_block"),
        ("degrade", "node_timeout_or_failure"),
        ("commit", ""),
        ("abort", "transport_disconnect_or_stall"),
    ]
    assert writers(call) == ["rules", "fixed", "rules"]
    assert said(call)[0] == APOLOGY
    assert said(call)[1].startswith("The house")
    assert [message.text for message in call.session.history][:3] == [QUESTION, APOLOGY, QUESTION]
    assert_replays(call)


def test_a_model_that_hangs_is_left_when_its_budget_is_used_up() -> None:
    call = asked_twice(["hangs"]).hold().check()
    assert call.signals(*TOLD)[:4] == [
        ("budget_exhausted", "budget_exhausted"),
        ("provider_error", "provider_timeout"),
        ("degrade", "budget_exhausted"),
        ("commit", ""),
    ]
    assert said(call)[0] == APOLOGY
    assert_replays(call)


def test_rules_may_stand_in_as_well_and_hang_up() -> None:
    rules = {"provider": "rules", "rules": [{"hear": "goodbye", "say": "Bye."}], "otherwise": "Not now."}
    call = asked_twice([refusal()], degraded={"llm": rules}).hold().check()
    assert said(call)[0] == "Not now."
    assert writers(call)[:2] == ["rules", "rules"]


def test_where_the_plan_does_not_allow_it_the_turn_ends() -> None:
    call = asked_twice([refusal()], adaptive_actions=("retry", "fallback")).hold().check()
    assert call.signals("degrade") == []
    assert call.signals("abort")[0] == ("abort", "provider_auth_or_policy_block")
    assert said(call)[0] == "Sorry, please ask me again."
    assert "llm.lesser" not in str(call.timeline.headers)


# ------------------------------------------------------------------ its place among the candidates


def degraded(responder: FakeResponder, *spare: FakeResponder, **settings: Any) -> FakeWorld:
    allowed = ("retry", "provider_switch", "degrade")
    given: dict[str, Any] = {"adaptive_actions": allowed, "degraded": DEGRADED, **settings}
    call = world(**given)
    call.responder, call.spare_responders = responder, list(spare)
    call.lesser_responder = FakeResponder(lambda _: APOLOGY)
    return call


def test_another_model_comes_first_when_one_refuses() -> None:
    call = degraded(FlakyResponder([refusal()]), FlakyResponder([refusal()]))
    session = call.hold()
    assert call.timeline.signals(*TOLD) == [
        ("provider_error", "provider_auth_or_policy_block"),
        ("provider_switch", "provider_auth_or_policy_block"),
        ("provider_error", "provider_auth_or_policy_block"),
        ("degrade", "node_timeout_or_failure"),
        ("commit", ""),
    ]
    assert writers(call)[-1] == "fixed"
    assert [message.text for message in session.history] == ["a question", APOLOGY]


def test_it_follows_the_candidates_that_the_profile_uses() -> None:
    few = {"name": "few", "attempts": {"candidates": 1}}
    unused = FakeResponder(lambda _: "never asked")
    call = degraded(FlakyResponder([refusal()]), unused, profile="few", profiles={"few": few})
    session = call.hold()
    assert [message.text for message in session.history] == ["a question", APOLOGY]
    assert unused.histories == []


def test_a_reply_that_was_heard_in_part_is_not_replaced() -> None:
    call = degraded(FlakyResponder([server_error()], after_words=4), adaptive_actions=("degrade",))
    call.hold()
    assert call.timeline.signals("degrade") == []
    assert ("abort", "provider_server_error") in call.timeline.signals("abort")


def test_a_lesser_form_that_fails_ends_the_turn() -> None:
    call = degraded(FlakyResponder([refusal()]))
    call.lesser_responder = FlakyResponder([refusal()])
    call.hold()
    assert len(call.timeline.signals("degrade")) == 1
    assert [attempt[2:] for attempt in attempts(call) if attempt[0] == "llm"] == [
        ("blocked", "none"),
        ("blocked", "none"),
    ]
    assert ("abort", "provider_auth_or_policy_block") in call.timeline.signals("abort")


# ------------------------------------------------------------------ opening it


def opened(**settings: Any) -> Any:
    rules = {"provider": "rules", "rules": [{"hear": "hello", "say": "hi"}]}
    spec = msgspec.convert({"name": "one", "llm": rules, "degraded": DEGRADED, **settings}, PipelineSpec)

    async def main() -> Any:
        offloader = InlineOffloader()
        providers = await open_providers(spec, offloader)
        await providers.close()
        offloader.close()
        return providers

    return run_virtual(main())


def test_it_is_opened_where_the_plan_allows_it_and_nowhere_else() -> None:
    allowed = opened(adaptive_actions=["degrade"])
    assert isinstance(allowed.lesser_responder, FixedResponder)
    assert allowed.writers(5) == (allowed.responder, allowed.lesser_responder)
    assert opened(adaptive_actions=["retry"]).lesser_responder is None


def test_a_missing_key_of_it_is_told_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMALL_KEY", raising=False)
    model = {"provider": "openai", "model": "small", "api_key_env": "SMALL_KEY"}
    with pytest.raises(ConfigurationError, match=r"^degraded\.llm\.api_key_env: .*SMALL_KEY"):
        opened(adaptive_actions=["degrade"], degraded={"llm": model})
