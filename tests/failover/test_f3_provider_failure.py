"""F3: a provider fails by timeout, rate limit, disconnect, or its own exception."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from rspp.contracts.errors import ProviderError
from rspp.tooling.fault_call import ANSWER, ASK, QUESTION, FaultCall, fault_after
from rspp.tooling.faults import FaultRecognition, FaultResponder

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.contracts.ports import RecognitionStream

ENDINGS = ("provider_error", "circuit_event", "provider_switch", "commit", "abort")
LONG_CALL = (*ASK, {"do": "wait_agent_silent", "ms": 1_200}, {"do": "hang_up"})
WAIT = (*ASK, {"do": "pause", "ms": 4_500}, {"do": "hang_up"})


def rate_limit() -> ProviderError:
    return ProviderError("429", outcome="overload", retryable=True, reason="provider_overload")


def server_error() -> ProviderError:
    return ProviderError("500", retryable=True, reason="provider_server_error")


def broken_line() -> ProviderError:
    return ProviderError("reset by peer", retryable=True, reason="provider_transport_error")


def attempts(call: FaultCall) -> list[tuple[str, str]]:
    return [
        (record["outcome"], record["retry_decision"])
        for record in call.records
        if record["kind"] == "provider_attempt" and record["modality"] == "llm"
    ]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("fault", "outcome"), [(rate_limit, "overload"), (broken_line, "infrastructure_failure")]
)
def test_f3_a_bad_moment_is_retried_within_the_turn(fault: Callable[[], ProviderError], outcome: str) -> None:
    call = FaultCall(WAIT, responder=lambda real: FaultResponder(real, [fault()])).hold().check()
    assert attempts(call)[0] == (outcome, "retry")
    assert call.signals("provider_error")[0][1] == fault().reason
    assert "abort" not in call.life(1)[: call.life(1).index("output_accepted")]
    assert np.any(call.caller.heard)


@pytest.mark.quick
def test_f3_a_provider_that_stays_away_is_left_for_another_and_its_circuit_opens() -> None:
    call = FaultCall(
        WAIT, responder=lambda real: FaultResponder(real, [server_error(), server_error()]), spare=1
    ).hold()
    call.check()
    assert call.responders[1].calls == 1
    assert call.signals(*ENDINGS)[:4] == [
        ("provider_error", "provider_server_error"),
        ("provider_error", "provider_server_error"),
        ("circuit_event", "circuit_opened"),
        ("provider_switch", "provider_server_error"),
    ]
    assert attempts(call)[:2] == [
        ("infrastructure_failure", "retry"),
        ("infrastructure_failure", "provider_switch"),
    ]
    assert np.any(call.caller.heard)


@pytest.mark.quick
def test_f3_without_another_the_turn_aborts_and_the_caller_is_told() -> None:
    call = FaultCall(WAIT, responder=lambda real: FaultResponder(real, [rate_limit(), rate_limit()])).hold()
    call.check()
    assert call.ending(1) == ["abort", "close"]
    assert call.signals("abort")[0] == ("abort", "provider_overload")
    assert "output_accepted" not in call.life(1)
    assert (False, "Sorry, please ask me again.") in call.caller.transcripts
    invocations = {
        record["provider_invocation_id"] for record in call.records if record["kind"] == "provider_attempt"
    }
    assert "pvi/call/1/1/000001" in invocations


def test_f3_a_provider_that_hangs_is_given_up_in_time() -> None:
    call = FaultCall(WAIT, responder=lambda real: FaultResponder(real, ["hang"]), spare=1).hold().check()
    assert call.signals("provider_error") == [("provider_error", "provider_timeout")]
    assert attempts(call)[0][0] == "timeout"
    assert np.any(call.caller.heard)


def test_f3_a_voice_that_breaks_off_is_not_heard_again_from_the_start() -> None:
    call = FaultCall(fault_after(3_000))
    call.caller.on_fault(lambda: setattr(call.voice, "broken", broken_line()))
    call.hold().check()
    assert ("abort", "provider_transport_error") in call.signals("abort")
    # What was queued of the finished sentence is abandoned with the turn; nothing of it is repeated.
    told = [text for of_caller, text in call.caller.transcripts if not of_caller]
    assert told
    assert all(ANSWER.startswith(text) or text == "Sorry, please ask me again." for text in told)


TWO_HEAR = {"stt": {"provider": "pocketsphinx"}, "alternatives": {"stt": [{"provider": "pocketsphinx"}]}}


def breaks(fault: Callable[[], ProviderError] | None, after_ms: int | None = None) -> Callable[..., Any]:
    def wrap(real: RecognitionStream) -> FaultRecognition:
        samples = None if after_ms is None else 16 * after_ms
        return FaultRecognition(real, fault() if fault is not None else "hang", samples)

    return wrap


@pytest.mark.quick
@pytest.mark.parametrize(
    ("wrap", "outcome"),
    [
        (breaks(rate_limit), "overload"),
        (breaks(None), "timeout"),
        (breaks(server_error, 600), "infrastructure_failure"),
        (breaks(None, 600), "timeout"),
    ],
    ids=["fails", "hangs", "fails_mid_utterance", "hangs_mid_utterance"],
)
def test_f3_another_recogniser_hears_the_utterance_from_its_beginning(
    wrap: Callable[..., Any], outcome: str
) -> None:
    call = FaultCall(WAIT, settings=TWO_HEAR, recognisers=[wrap]).hold().check()
    heard = [
        record
        for record in call.records
        if record["kind"] == "provider_attempt" and record["modality"] == "stt"
    ]
    assert (heard[0]["outcome"], heard[-1]["outcome"]) == (outcome, "success")
    assert (True, QUESTION) in call.caller.transcripts
    assert call.hearers[1].samples >= call.hearers[0].samples
    assert np.any(call.caller.heard)
    assert len(call.signals("provider_switch")) == 1


def test_f3_without_a_recogniser_the_caller_is_told() -> None:
    call = FaultCall(WAIT, settings=TWO_HEAR, recognisers=[breaks(rate_limit), breaks(server_error)])
    call.hold().check()
    assert (False, "Sorry, please ask me again.") in call.caller.transcripts
    assert (True, QUESTION) not in call.caller.transcripts
    assert "provider_overload" in [reason for _, reason in call.signals("provider_error")]
