"""A call over the loopback that fails before it begins leaves nothing open."""

from __future__ import annotations

import gc
import warnings
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from rspp.authority.sqlite import SqliteLeaseStore
from rspp.contracts.errors import ConfigurationError
from rspp.pipeline.spec import PipelineSpec
from rspp.providers.registry import Providers
from rspp.runtime.loopback_call import loopback_call
from rspp.session.offload import InlineOffloader
from rspp.session.pool import WorkPool
from rspp.session.virtual_time import run_virtual
from rspp.tooling.fault_call import ASK
from rspp.tooling.faults import FaultCaller
from tests.session.fakes import FakeCaller, FakeDetector, FakeRecognition, FakeResponder, FakeSynthesizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.session.session import Session

SPEC = {"name": "fake", "llm": {"provider": "rules", "rules": [{"hear": "unused", "say": "unused"}]}}


class FakeClosedVoice(FakeSynthesizer):
    """Says when it was closed."""

    def __init__(self, order: list[str]) -> None:
        super().__init__()
        self._order = order

    async def close(self) -> None:
        self._order.append("voice")


def noted(close: Callable[[Any], None], name: str, order: list[str]) -> Callable[[Any], None]:
    """``close``, which writes down that it was called."""

    def closing(opened: Any) -> None:
        order.append(name)
        close(opened)

    return closing


def refuse(session: Session) -> None:
    raise ConfigurationError("no such call", hint="hold another one")


def test_what_was_opened_for_it_is_closed_and_the_providers_before_their_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []
    for kind, name in ((SqliteLeaseStore, "store"), (WorkPool, "pool"), (InlineOffloader, "threads")):
        monkeypatch.setattr(kind, "close", noted(kind.close, name, order))
    providers = Providers(
        vad=FakeDetector(),
        recognition=FakeRecognition({}),
        responder=FakeResponder(lambda _: ""),
        synthesizer=FakeClosedVoice(order),
    )
    call = loopback_call(
        FakeCaller([], 1_000),
        msgspec.convert(SPEC, PipelineSpec),
        session_id="call",
        providers=providers,
        on_session=refuse,
    )
    with pytest.raises(ConfigurationError, match="no such call"):
        run_virtual(call)
    assert order == ["store", "voice", "pool", "threads"]


def test_a_caller_who_was_never_in_a_call_has_no_file_and_heard_nothing() -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        caller = FaultCaller(ASK)
        assert caller.recording.heard.size == 0
        del caller
        gc.collect()
    assert [str(one.message) for one in found] == []
