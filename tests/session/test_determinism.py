"""A session has no randomness of its own: a plan's seed is derived and kept, and nothing draws from it."""

from __future__ import annotations

import os
import random
import secrets
import sys
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from rspp._kernel import MERGE_RULE_ID, MERGE_RULE_VERSION, ORDERING_MARKERS
from rspp.session.session import Session
from rspp.tooling.fault_call import ASK, SPEAKING, FaultCall
from rspp.tooling.faults import FaultResponder

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.contracts.ports import Responder

SOURCES: tuple[tuple[Any, str], ...] = (
    (os, "urandom"),
    (os, "getrandom"),
    (random, "random"),
    (random, "uniform"),
    (random, "randint"),
    (random, "getrandbits"),
    (random, "choice"),
    (random, "shuffle"),
    (secrets, "token_hex"),
    (secrets, "token_bytes"),
    (uuid, "uuid4"),
    (uuid, "uuid1"),
    (np.random, "random"),
    (np.random, "normal"),
    (np.random, "default_rng"),
)


def failing(real: Responder) -> FaultResponder:
    return FaultResponder(real, ["fail"])


def talk() -> FaultCall:
    """An answer cut short, a provider that fails and is tried again, and an answer heard whole."""
    steps = (*ASK, SPEAKING, *ASK, {"do": "pause", "ms": 14_000}, {"do": "hang_up"})
    return FaultCall(steps, responder=failing, spare=1)


@pytest.mark.conformance("RD-003")
def test_a_session_draws_no_number_and_equal_calls_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = talk().hold().check()
    drawn: list[str] = []

    def watched(name: str, source: Callable[..., Any]) -> Callable[..., Any]:
        def draw(*given: Any, **named: Any) -> Any:
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if not given or name != "default_rng":
                drawn.append(f"{name} in {caller}")
            return source(*given, **named)

        return draw

    run = Session.run

    async def watched_run(session: Session) -> str:
        for owner, name in SOURCES:
            monkeypatch.setattr(owner, name, watched(name, getattr(owner, name)))
        try:
            return await run(session)
        finally:
            monkeypatch.undo()

    monkeypatch.setattr(Session, "run", watched_run)
    call = talk().hold().check()
    assert drawn == []
    assert call.timeline.lines == usual.timeline.lines
    assert np.array_equal(call.caller.heard, usual.caller.heard)


def test_the_seed_of_a_plan_is_its_own_and_on_record() -> None:
    call = talk().hold().check()
    seeds = [record["value"] for record in call.records if "plan_hash" in record]
    assert len(seeds) >= 2
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 1 << 63 for seed in seeds)


def test_the_plan_names_the_kernels_rule_of_order() -> None:
    assert (MERGE_RULE_ID, MERGE_RULE_VERSION) == ("default-merge-rule", "v1.0.0")
    assert list(ORDERING_MARKERS) == ["runtime_sequence", "event_id"]
