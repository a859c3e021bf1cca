"""Calls under quotas, budgets and the ingress gateway are run again to the identical trace."""

from __future__ import annotations

import pytest

from rspp.tooling.fault_call import FaultCall
from rspp.tooling.faults import FaultResponder
from tests.failover.test_f1_admission_overload import overloaded, quotas, taken_by_another
from tests.failover.test_f2_node_failure import WAIT
from tests.replay.tapes import TapedKernel, Tapes
from tests.session.test_ingress import texted


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> Tapes:
    return Tapes(monkeypatch)


def identical(kernel: TapedKernel) -> None:
    replay = kernel.replay()
    assert replay.divergences == []
    assert replay.gap is None
    assert replay.position == replay.compared > replay.inputs > 100


@pytest.mark.parametrize("point", ["turn_start", "node_dispatch", "edge_dequeue"])
def test_a_call_that_finds_no_place_is_the_same_again(tapes: Tapes, point: str) -> None:
    overloaded(taken_by_another(point), 5_000, free=point)
    identical(tapes.kernels[0])


def test_a_call_whose_items_were_shed_is_the_same_again(tapes: Tapes) -> None:
    overloaded(quotas(edge_enqueue=(12, 12, 12)), 20)
    identical(tapes.kernels[0])


@pytest.mark.parametrize("settings", [{}, {"adaptive_actions": []}])
def test_a_call_with_budgets_used_up_is_the_same_again(tapes: Tapes, settings: dict[str, object]) -> None:
    FaultCall(WAIT, settings=settings, responder=lambda real: FaultResponder(real, ["hang"]), spare=1).hold()
    identical(tapes.kernels[0])


def test_a_call_with_refused_texts_is_the_same_again(tapes: Tapes) -> None:
    texted((500, "please stop now", "ann/1"), (700, "x" * 20_000, "ann/2"), (4_000, "again", "ann/1"))
    identical(tapes.kernels[0])
