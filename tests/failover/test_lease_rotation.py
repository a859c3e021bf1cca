"""A lease that rotates under the same holder: who may ask, what is given, and what becomes of the call."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, TypeVar

import pytest

from rspp._kernel import STALE_EPOCH
from rspp.authority.clock import BootClock
from rspp.authority.sqlite import SqliteLeaseStore
from rspp.authority.store import RENEW_MS, TTL_MS, Lease, LeaseHeld, LeaseLostError
from rspp.authority.watcher import LeaseWatcher
from rspp.contracts.validation import check_stream
from rspp.evidence.baseline_reading import entries_of
from rspp.evidence.reader import open_recording
from rspp.evidence.verify import verify
from rspp.evidence.writer import EvidenceWriter
from rspp.replay.engine import recompute
from rspp.runtime.commands import app
from rspp.runtime.join import LEASE_FILE
from rspp.session.virtual_time import VirtualClock, run_virtual
from rspp.terminal import run_app
from rspp.tooling.fault_call import (
    ANSWER,
    ASK,
    PIPELINE,
    QUESTION,
    SPEAKING,
    FaultCall,
    TakeoverCall,
    fault_after,
)
from rspp.tooling.faults import FaultStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

QUIET = {"do": "wait_agent_silent", "ms": 900}
AGAIN = ({"do": "say", "text": QUESTION}, SPEAKING, QUIET, {"do": "hang_up"})


class FakeClock:
    us = 50_000_000

    def now_us(self) -> int:
        return self.us

    def wall_clock_ms(self) -> int:
        return 1_700_000_000_000


# ------------------------------------------------------------------ the store


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(tmp_path: Path, clock: FakeClock) -> Iterator[SqliteLeaseStore]:
    opened = SqliteLeaseStore(tmp_path / "leases.db", clock, boot_id="here")
    yield opened
    opened.close()


@pytest.fixture
def operator(tmp_path: Path, clock: FakeClock, store: SqliteLeaseStore) -> Iterator[SqliteLeaseStore]:
    """The same file, as another process has it open."""
    opened = SqliteLeaseStore(tmp_path / "leases.db", clock, boot_id="here")
    yield opened
    opened.close()


def take(store: SqliteLeaseStore, holder: str = "one") -> Lease:
    lease = store.acquire("s", holder, TTL_MS, {"room": "r"})
    assert isinstance(lease, Lease)
    return lease


def test_the_next_renewal_brings_the_higher_epoch_and_voids_the_old_lease(
    store: SqliteLeaseStore, operator: SqliteLeaseStore, clock: FakeClock
) -> None:
    lease = take(store)
    clock.us += 400_000
    # Until the holder knows, the old epoch is the one that may speak.
    assert operator.rotate("s") == LeaseHeld(session_id="s", epoch=1, holder="one", remaining_ms=3600)
    renewed = store.renew(lease)
    assert (renewed.epoch, renewed.holder, renewed.metadata) == (2, "one", {"room": "r"})
    assert renewed.token != lease.token
    assert renewed.deadline_us == lease.deadline_us + 400_000
    for refused in (store.renew, store.release):
        with pytest.raises(LeaseLostError) as raised:
            refused(lease)
        assert raised.value.epoch == 2
    clock.us += 400_000
    assert store.renew(renewed).epoch == 2
    store.release(renewed)
    assert take(store).epoch == 3


def test_asking_twice_before_the_renewal_rotates_once(
    store: SqliteLeaseStore, operator: SqliteLeaseStore
) -> None:
    lease = take(store)
    operator.rotate("s")
    operator.rotate("s", 1)
    lease = store.renew(lease)
    # The question of a poller is no new wish, a wish without an epoch is.
    told = operator.rotate("s", 1)
    assert told is not None
    assert (told.epoch, store.renew(lease).epoch) == (2, 2)
    operator.rotate("s")
    assert store.renew(lease).epoch == 3


def test_nobody_to_rotate_is_said_and_not_kept_for_the_next_holder(
    store: SqliteLeaseStore, operator: SqliteLeaseStore, clock: FakeClock
) -> None:
    assert operator.rotate("s") is None
    first = take(store)
    operator.rotate("s")
    clock.us += TTL_MS * 1000
    assert operator.rotate("s") is None
    second = take(store, "two")
    assert (second.epoch, second.resumed) == (2, True)
    assert store.renew(second).epoch == 2
    with pytest.raises(LeaseLostError):
        store.renew(first)


def test_other_sessions_stay_as_they_are(store: SqliteLeaseStore, operator: SqliteLeaseStore) -> None:
    other = store.acquire("t", "one", TTL_MS, {})
    assert isinstance(other, Lease)
    take(store)
    operator.rotate("s")
    assert store.renew(other).epoch == 1


# ------------------------------------------------------------------ the watcher


class FakeSlowOffloader:
    """Has the store's answer at once and gives it after a while."""

    async def run(self, work: Callable[[], T]) -> T:
        result = work()
        await asyncio.sleep(0.3)
        return result


def test_a_lease_that_rotates_while_the_session_ends_is_given_back() -> None:
    async def main() -> tuple[bool, list[int], int]:
        store = SqliteLeaseStore(":memory:", VirtualClock(), boot_id="here")
        renewed: list[int] = []
        watcher = LeaseWatcher(
            store,
            take(store),
            VirtualClock(),
            FakeSlowOffloader(),
            on_renewed=lambda lease: renewed.append(lease.epoch),
            on_lost=lambda reason: pytest.fail(reason),
        )
        store.rotate("s")
        watching = asyncio.create_task(watcher.run())
        await asyncio.sleep((RENEW_MS + 100) / 1000)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        given_back = await watcher.release()
        successor = take(store, "two")
        store.close()
        assert not successor.resumed
        return given_back, renewed, successor.epoch

    assert run_virtual(main()) == (True, [], 3)


def test_a_renewal_that_hangs_as_the_session_ends_is_given_up_at_the_deadline() -> None:
    class FakeHangingOffloader:
        async def run(self, work: Callable[[], T]) -> T:
            await asyncio.Event().wait()
            return work()

    async def main() -> tuple[bool, int]:
        clock = VirtualClock()
        store = SqliteLeaseStore(":memory:", clock, boot_id="here")
        start = clock.now_us()
        watcher = LeaseWatcher(
            store,
            take(store),
            clock,
            FakeHangingOffloader(),
            on_renewed=lambda lease: pytest.fail(repr(lease)),
            on_lost=lambda reason: pytest.fail(reason),
        )
        watching = asyncio.create_task(watcher.run())
        await asyncio.sleep((RENEW_MS + 100) / 1000)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        given_back = await watcher.release()
        store.close()
        return given_back, (clock.now_us() - start) // 1000

    assert run_virtual(main()) == (False, 3750)


# ------------------------------------------------------------------ the call


def rotated(call: FaultCall, path: Path | None = None) -> FaultCall:
    """Hold ``call``; an operator, who has the store open as well, rotates as the step ``fault`` begins."""
    file = ":memory:" if path is None else path / "leases.db"

    async def hold() -> None:
        call.clock = VirtualClock()
        call.store = FaultStore(file, call.clock, boot_id="here")
        operator = call.store if path is None else SqliteLeaseStore(file, call.clock, boot_id="here")

        def ask() -> None:
            operator.rotate("call")

        call.caller.on_fault(ask)
        try:
            await call.run("loopback")
            call.lease_is_free = isinstance(call.store.acquire("call", "next", TTL_MS, {}), Lease)
        finally:
            operator.close()
            call.store.close()

    run_virtual(hold())
    return call.check()


def epochs_of(call: FaultCall, signal: str) -> list[int]:
    events = [record["event"] for record in call.records if record["kind"] == "signal"]
    return [event["authority_epoch"] for event in events if event["signal"] == signal]


@pytest.fixture(scope="module")
def spoken_over(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaultCall, Path]:
    """A call over a store in a file, recorded on disk, whose lease rotates as the agent speaks."""
    folder = tmp_path_factory.mktemp("rotation")
    call = FaultCall((*ASK, SPEAKING, {"do": "pause", "name": "fault", "ms": 2_500}, *AGAIN))
    with EvidenceWriter(folder / "evidence", "acme", fsync="never") as writer:
        call.recorders = lambda lease, resumed: writer.open("call", epoch=lease.epoch, resumed=resumed)
        rotated(call, folder)
        assert writer.close(30.0)
    return call, folder / "evidence" / "acme" / "call"


@pytest.mark.conformance("AE-003")
def test_a_rotation_ends_the_turn_that_was_planned_under_the_old_epoch_and_not_the_call(
    spoken_over: tuple[FaultCall, Path],
) -> None:
    call, _ = spoken_over
    moments = ("lease_issued", "deauthorized_drain", "abort", "close", "lease_rotated", "turn_open", "commit")
    assert call.signals(*moments) == [
        ("lease_issued", ""),
        ("turn_open", ""),
        ("deauthorized_drain", "authority_revoked_in_turn"),
        ("abort", "authority_loss"),
        ("close", ""),
        ("lease_rotated", "authority_epoch_rotation"),
        *[("turn_open", ""), ("commit", ""), ("close", "")] * 2,
    ]
    assert call.signals("migration_start", "migration_finish", "session_handoff") == []
    assert call.session.reason == "caller_left"
    assert call.lease_is_free


def test_what_follows_a_rotation_carries_the_higher_epoch(spoken_over: tuple[FaultCall, Path]) -> None:
    call, _ = spoken_over
    assert epochs_of(call, "turn_open") == [1, 2, 2]
    # Whatever is told is told under the epoch of the moment, the end of an earlier epoch's turn too.
    assert epochs_of(call, "abort") == [2]
    assert epochs_of(call, "lease_rotated") == [2]
    assert call.session.kernel.epoch == 2


def test_the_caller_is_told_that_the_answer_was_cut_off(spoken_over: tuple[FaultCall, Path]) -> None:
    call, _ = spoken_over
    cut_off, *after = [text for of_caller, text in call.caller.transcripts if not of_caller]
    assert after == [PIPELINE["failure_notice"], ANSWER]
    assert 0 < len(cut_off) < len(ANSWER)
    assert ANSWER.startswith(cut_off)


def test_nothing_of_the_old_epoch_is_heard_from_the_renewal_on() -> None:
    pause = {"do": "pause", "name": "fault", "ms": 2_500}
    call = rotated(FaultCall((*ASK, SPEAKING, pause, *AGAIN), {"failure_notice": ""}))
    start = next(record["started_us"] for record in call.records if record["kind"] == "header")
    moved = next(
        record["at_us"]
        for record in call.records
        if record["kind"] == "signal" and record["event"]["signal"] == "lease_rotated"
    )
    moved_ms, asked_ms = (moved - start) // 1000, call.caller.begun_ms["fault"]
    assert asked_ms < moved_ms <= asked_ms + RENEW_MS
    quiet = call.caller.heard[(moved_ms + 20) * 24 : (asked_ms + 2_500) * 24]
    assert len(quiet) > 24_000
    assert not quiet.any()
    assert call.caller.heard_after(asked_ms + 2_500).any()


def test_a_call_that_rotated_is_recorded_whole_and_replays_to_the_identical_trace(
    spoken_over: tuple[FaultCall, Path],
) -> None:
    call, recording = spoken_over
    assert verify(recording).damage == []
    result = recompute(open_recording(recording))
    assert result.identical, result.divergences
    assert [stint.epoch for stint in result.stints] == [1]
    entries = entries_of(call.records, call.timeline.headers, clock="virtual")
    assert [(entry.authority_epoch, entry.missing()) for entry in entries] == [(1, []), (2, []), (2, [])]
    assert not any(entry.accepted_stale_epoch_output for entry in entries)


def test_between_two_turns_a_rotation_costs_nothing() -> None:
    first = (*ASK, SPEAKING, QUIET, {"do": "pause", "name": "fault", "ms": 1_500})
    call = rotated(FaultCall((*first, *AGAIN)))
    assert call.signals("lease_rotated", "commit", "abort", "deauthorized_drain") == [
        ("commit", ""),
        ("lease_rotated", "authority_epoch_rotation"),
        ("commit", ""),
    ]
    assert epochs_of(call, "commit") == [1, 2]


def test_a_frame_of_the_old_epoch_does_not_pass_after_a_rotation() -> None:
    pause = {"do": "pause", "name": "fault", "ms": 1_500}
    call = FaultCall((*ASK, SPEAKING, pause, {**AGAIN[0], "name": "again"}, *AGAIN[1:]))
    verdicts: list[object] = []

    def stale() -> None:
        kernel, now = call.session.kernel, call.clock.now_us()
        verdicts.extend((kernel.epoch, kernel.frame(now, 1, 1, 10**6, 480), kernel.ingress(now, 1)[0]))

    call.caller.on_step("again", stale)
    rotated(call)
    assert verdicts == [2, STALE_EPOCH, "stale"]


def test_a_rotated_call_can_be_taken_over_like_any() -> None:
    turn = {"do": "pause", "name": "rotate", "ms": 1_500}
    first = FaultCall((*ASK, SPEAKING, QUIET, turn, AGAIN[0], SPEAKING, *fault_after(9_000)[-2:]))
    second = FaultCall(({"do": "pause", "ms": 8_000}, *ASK, SPEAKING, {"do": "hang_up"}))
    both = TakeoverCall(first, second)

    def ask() -> None:
        # The operator's way to the store is not the one that will be cut.
        second.store.rotate("call")

    first.caller.on_step("rotate", ask)
    both.hold()
    first.check()
    second.check()
    assert epochs_of(first, "turn_open") == [1, 2]
    assert (second.lease.epoch, second.lease.resumed) == (3, True)
    assert set(epochs_of(second, "turn_open")) == {3}
    assert check_stream(iter([*first.timeline.lines, *second.timeline.lines])).faults == []


# ------------------------------------------------------------------ the command


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[SqliteLeaseStore, Lease]]:
    opened = SqliteLeaseStore(tmp_path / LEASE_FILE, BootClock())
    yield opened, take(opened)
    opened.close()


def rotate(state: Path, *arguments: str, session: str = "s") -> int:
    return run_app(app, ["rotate-lease", "--session", session, "--state", str(state), *arguments])


def test_the_command_waits_for_the_holder_and_names_both_epochs(
    held: tuple[SqliteLeaseStore, Lease],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, lease = held
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal lease
        waits.append(seconds)
        if len(waits) % 3 == 0:
            lease = store.renew(lease)

    monkeypatch.setattr(time, "sleep", sleep)
    assert rotate(tmp_path) == 0
    assert capsys.readouterr().out == "session s: epoch 1 -> 2, held by one\n"
    assert rotate(tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"session": "s", "holder": "one", "epoch": 3, "before": 2}
    assert (len(waits), lease.epoch) == (6, 3)


@pytest.mark.parametrize(("released", "told"), [(True, "did not renew"), (False, "stays at epoch 1")])
def test_the_command_says_when_no_higher_epoch_came(
    held: tuple[SqliteLeaseStore, Lease],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    released: bool,
    told: str,
) -> None:
    store, lease = held
    monkeypatch.setattr(time, "sleep", lambda _: store.release(lease) if released else None)
    assert rotate(tmp_path) == 1
    assert told in capsys.readouterr().err


def test_the_command_refuses_what_nobody_holds(
    held: tuple[SqliteLeaseStore, Lease], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rotate(tmp_path, session="other") == 2
    assert "no runtime holds it" in capsys.readouterr().err
    assert rotate(tmp_path / "nowhere") == 2
    assert "no lease store" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
    assert rotate(tmp_path, session="../s") == 2
