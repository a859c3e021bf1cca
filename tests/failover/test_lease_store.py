"""The embedded lease store: one holder at a time, epochs that only rise, clocks that cannot be tricked."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rspp.authority.clock import BootClock, read_boot_id
from rspp.authority.sqlite import BUSY_TIMEOUT_MS, SqliteLeaseStore
from rspp.authority.store import (
    MARGIN_MS,
    TTL_MS,
    Lease,
    LeaseExpiredError,
    LeaseHeld,
    LeaseLostError,
    LeaseStoreError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


class FakeClock:
    def __init__(self) -> None:
        self.us = 50_000_000
        self.wall_ms = 1_700_000_000_000

    def now_us(self) -> int:
        return self.us

    def wall_clock_ms(self) -> int:
        return self.wall_ms

    def forward(self, ms: int) -> None:
        self.us += ms * 1000


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "leases.db"


@pytest.fixture
def store(path: Path, clock: FakeClock) -> Iterator[SqliteLeaseStore]:
    opened = SqliteLeaseStore(path, clock, boot_id="boot-1")
    yield opened
    opened.close()


def take(store: SqliteLeaseStore, holder: str = "one", session: str = "s") -> Lease:
    lease = store.acquire(session, holder, TTL_MS, {"room": "r"})
    assert isinstance(lease, Lease)
    return lease


def test_a_grant_has_the_first_epoch_and_a_deadline_short_of_the_stores(
    store: SqliteLeaseStore, clock: FakeClock
) -> None:
    lease = take(store)
    assert (lease.epoch, lease.holder, lease.metadata) == (1, "one", {"room": "r"})
    assert lease.deadline_us == clock.us + (TTL_MS - MARGIN_MS) * 1000
    assert lease.token not in repr(lease)


def test_a_held_lease_is_refused_and_tells_by_whom_and_how_long(
    store: SqliteLeaseStore, clock: FakeClock
) -> None:
    take(store)
    clock.forward(1500)
    assert store.acquire("s", "two", TTL_MS, {}) == LeaseHeld(
        session_id="s", epoch=1, holder="one", remaining_ms=2500
    )
    assert isinstance(store.acquire("other session", "two", TTL_MS, {}), Lease)


def test_another_takes_over_only_when_the_time_to_live_is_over(
    store: SqliteLeaseStore, clock: FakeClock
) -> None:
    first = take(store)
    clock.us = first.deadline_us
    assert isinstance(store.acquire("s", "two", TTL_MS, {}), LeaseHeld)
    clock.forward(MARGIN_MS)
    second = take(store, "two")
    assert second.epoch == 2
    with pytest.raises(LeaseLostError, match=r"epoch 1 now belongs to two \(epoch 2\)"):
        store.renew(first)
    with pytest.raises(LeaseLostError):
        store.release(first)
    assert store.renew(second).epoch == 2


def test_a_renewal_counts_from_itself(store: SqliteLeaseStore, clock: FakeClock) -> None:
    lease = take(store)
    clock.forward(3000)
    renewed = store.renew(lease)
    assert renewed.deadline_us == clock.us + (TTL_MS - MARGIN_MS) * 1000
    assert (renewed.epoch, renewed.token) == (lease.epoch, lease.token)
    clock.forward(3999)
    assert isinstance(store.acquire("s", "two", TTL_MS, {}), LeaseHeld)


def test_a_lease_that_ran_out_is_not_renewed_though_nobody_took_it(
    store: SqliteLeaseStore, clock: FakeClock
) -> None:
    lease = take(store)
    clock.forward(TTL_MS)
    with pytest.raises(LeaseExpiredError) as caught:
        store.renew(lease)
    assert caught.value.reason == "lease_expired"


def test_a_guessed_token_is_worth_nothing(store: SqliteLeaseStore) -> None:
    lease = take(store)
    forged = Lease(
        session_id="s", epoch=1, token="0" * 32, holder="one", ttl_ms=TTL_MS, deadline_us=lease.deadline_us
    )
    with pytest.raises(LeaseLostError):
        store.renew(msgspec.structs.replace(lease, epoch=2))
    with pytest.raises(LeaseLostError) as caught:
        store.renew(forged)
    assert caught.value.reason == "lease_deauthorized"
    assert lease.token not in str(caught.value)
    store.renew(lease)


def test_a_released_lease_is_free_at_once_and_the_next_epoch_is_higher(store: SqliteLeaseStore) -> None:
    first = take(store)
    store.release(first)
    store.release(first)
    with pytest.raises(LeaseLostError, match="given back"):
        store.renew(first)
    assert store.orphans() == []
    assert take(store, "two").epoch == 2


def test_setting_the_wall_clock_changes_nothing(store: SqliteLeaseStore, clock: FakeClock) -> None:
    lease = take(store)
    for wall_ms in (0, 2**45):
        clock.wall_ms = wall_ms
        assert isinstance(store.acquire("s", "two", TTL_MS, {}), LeaseHeld)
        assert store.renew(lease).deadline_us == lease.deadline_us


def test_a_lease_of_an_earlier_boot_is_over_though_its_stamp_lies_ahead(path: Path, clock: FakeClock) -> None:
    with contextlib.closing(SqliteLeaseStore(path, clock, boot_id="boot-1")) as before:
        old = take(before)
    clock.us = 1_000_000
    with contextlib.closing(SqliteLeaseStore(path, clock, boot_id="boot-2")) as after:
        with pytest.raises(LeaseExpiredError):
            after.renew(old)
        (orphan,) = after.orphans()
        assert (orphan.epoch, orphan.expired_ms) == (1, None)
        assert take(after, "two").epoch == 2


def test_orphans_are_sessions_whose_holder_vanished(store: SqliteLeaseStore, clock: FakeClock) -> None:
    take(store, session="first")
    clock.forward(500)
    take(store, session="second")
    store.release(take(store, session="ended"))
    clock.forward(2000)
    take(store, session="alive")
    clock.forward(2000)
    orphans = store.orphans()
    assert [(orphan.session_id, orphan.expired_ms) for orphan in orphans] == [("second", 0), ("first", 500)]
    assert (orphans[0].holder, orphans[0].metadata) == ("one", {"room": "r"})
    assert [orphan.session_id for orphan in store.orphans(limit=1)] == ["second"]
    take(store, "two", "first")
    assert [orphan.session_id for orphan in store.orphans()] == ["second"]


def test_calls_that_can_be_saved_come_before_those_of_an_earlier_boot(path: Path, clock: FakeClock) -> None:
    with contextlib.closing(SqliteLeaseStore(path, clock, boot_id="boot-1")) as before:
        for number in range(5):
            take(before, session=f"old-{number}")
    clock.us = 1_000_000
    with contextlib.closing(SqliteLeaseStore(path, clock, boot_id="boot-2")) as after:
        take(after, session="fresh")
        clock.forward(TTL_MS)
        assert [orphan.session_id for orphan in after.orphans(limit=2)] == ["fresh", "old-0"]


def test_a_grant_tells_whether_a_call_is_taken_over(store: SqliteLeaseStore, clock: FakeClock) -> None:
    first = take(store)
    assert not first.resumed
    clock.forward(TTL_MS)
    second = take(store, "two")
    assert second.resumed
    assert store.renew(second).resumed
    store.release(second)
    assert not take(store, "three").resumed


def test_orphans_are_found_without_reading_every_session_there_ever_was(store: SqliteLeaseStore) -> None:
    assert store._connection is not None
    plan = store._connection.execute(
        "EXPLAIN QUERY PLAN SELECT session_id FROM lease "
        "WHERE released = 0 AND (boot_id <> 'b' OR expires_us <= 1)"
    ).fetchall()
    assert "USING INDEX unreleased" in plan[0][3]


def test_epochs_outlive_the_process_and_the_file_is_private(path: Path, clock: FakeClock) -> None:
    for epoch in (1, 2, 3):
        with contextlib.closing(SqliteLeaseStore(path, clock, boot_id="boot-1")) as store:
            lease = take(store)
            assert lease.epoch == epoch
            store.release(lease)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_is_written_through_to_the_disk(path: Path, store: SqliteLeaseStore) -> None:
    take(store)
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._connection is not None
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_store_in_memory_serves_a_run_over_files(clock: FakeClock) -> None:
    with contextlib.closing(SqliteLeaseStore(":memory:", clock)) as store:
        assert take(store).epoch == 1
        assert isinstance(store.acquire("s", "two", TTL_MS, {}), LeaseHeld)


def test_a_time_to_live_within_the_margin_is_refused(store: SqliteLeaseStore) -> None:
    with pytest.raises(ValueError, match="ttl_ms must be above the margin of 250 ms"):
        store.acquire("s", "one", MARGIN_MS, {})


# ------------------------------------------------------------------------------------- broken stores


def test_a_locked_file_is_told_with_a_remedy_and_works_again_later(
    path: Path, store: SqliteLeaseStore
) -> None:
    lease = take(store)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LeaseStoreError, match="locked") as caught:
            store.renew(lease)
        assert "another process" in caught.value.hint
        other.execute("ROLLBACK")
    store.renew(lease)


class FakeRacingConnection(sqlite3.Connection):
    """Is told twice, without any wait, that somebody else switches the file at the same moment."""

    refusals = 2

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if "journal_mode" in sql and self.refusals:
            self.refusals -= 1
            busy = sqlite3.OperationalError("database is locked")
            busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise busy
        return super().execute(sql, *arguments)


def test_two_that_make_the_file_at_once_both_get_it(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = functools.partial(sqlite3.connect, factory=FakeRacingConnection)
    monkeypatch.setattr("rspp.authority.sqlite.sqlite3.connect", connect)
    with contextlib.closing(SqliteLeaseStore(path, clock)) as store:
        assert store._connection is not None
        assert store._connection.execute("PRAGMA busy_timeout").fetchone() == (BUSY_TIMEOUT_MS,)
        assert take(store).epoch == 1


def test_a_file_that_stays_locked_is_not_waited_for_without_end(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rspp.authority.sqlite.OPENING_TIMEOUT_MS", 50)
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LeaseStoreError, match="locked"):
            SqliteLeaseStore(path, clock)


def test_a_file_that_is_no_store_is_left_alone(path: Path, clock: FakeClock) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but somebody's letters" * 100)
    before = path.read_bytes()
    with pytest.raises(LeaseStoreError, match="not a database") as caught:
        SqliteLeaseStore(path, clock)
    assert "move it away" in caught.value.hint
    assert path.read_bytes() == before


def test_a_store_of_another_version_is_refused(path: Path, clock: FakeClock) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(LeaseStoreError, match="another version of RSPP"):
        SqliteLeaseStore(path, clock)


def test_a_path_that_cannot_be_made_is_told(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "leases.db", tmp_path):
        with pytest.raises(LeaseStoreError) as caught:
            SqliteLeaseStore(path, clock)
        assert str(path) in caught.value.message
        assert caught.value.hint


def test_a_store_that_may_not_be_written_is_told(path: Path, store: SqliteLeaseStore) -> None:
    lease = take(store)
    assert store._connection is not None
    store._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(LeaseStoreError, match="readonly") as caught:
        store.renew(lease)
    assert "writable" in caught.value.hint


def test_a_closed_store_says_so(store: SqliteLeaseStore) -> None:
    store.close()
    store.close()
    with pytest.raises(LeaseStoreError, match="is closed"):
        store.orphans()


# --------------------------------------------------------------------------------------- properties


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["acquire", "renew", "release", "forward", "reboot"]), st.integers(0, 2)),
        max_size=40,
    )
)
def test_whatever_happens_epochs_rise_and_at_most_one_deadline_is_ahead(
    steps: list[tuple[str, int]],
) -> None:
    clock = FakeClock()
    store = SqliteLeaseStore(":memory:", clock, boot_id="boot-0")
    held: dict[int, Lease] = {}
    highest = 0
    for number, (step, who) in enumerate(steps):
        if step == "acquire":
            lease = store.acquire("s", f"holder-{who}", TTL_MS, {})
            if isinstance(lease, Lease):
                assert lease.epoch > highest
                highest = lease.epoch
                held[who] = lease
        elif step == "forward":
            clock.forward((700, 1900, 4100)[who])
        elif step == "reboot":
            # Nobody's local deadline outlives the host.
            store._boot_id = f"boot-{number}"
            clock.us = 1_000_000
            held.clear()
        elif who in held:
            with contextlib.suppress(LeaseLostError):
                if step == "renew":
                    held[who] = store.renew(held[who])
                else:
                    # Whoever gives a lease back has closed its gate before.
                    store.release(held.pop(who))
        entitled = [lease for lease in held.values() if clock.us < lease.deadline_us]
        assert len(entitled) <= 1
        assert all(lease.epoch == highest for lease in entitled)
    store.close()


# ---------------------------------------------------------------------------------- real processes

RACER = """
import sys
from pathlib import Path
from rspp.authority.clock import BootClock
from rspp.authority.sqlite import BUSY_TIMEOUT_MS, SqliteLeaseStore
from rspp.authority.store import Lease
store = SqliteLeaseStore(Path(sys.argv[1]), BootClock())
print("ready", flush=True)
sys.stdin.readline()
got = store.acquire("s", sys.argv[2], int(sys.argv[3]), {"room": "r"})
print("won" if isinstance(got, Lease) else "held", got.epoch, flush=True)
sys.stdin.readline()
"""


def racer(path: Path, name: str, ttl_ms: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RACER, str(path), name, str(ttl_ms)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 20)
    assert ready, "the process did not answer within 20 s"
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_of_processes_that_race_exactly_one_wins(path: Path) -> None:
    racers = [racer(path, f"racer-{number}", 60_000) for number in range(4)]
    try:
        assert [line(process) for process in racers] == ["ready"] * 4
        for process in racers:
            tell(process)
        assert sorted(line(process) for process in racers) == ["held 1"] * 3 + ["won 1"]
    finally:
        for process in racers:
            end(process)


def test_the_lease_of_a_killed_process_goes_to_another_when_it_has_run_out(path: Path) -> None:
    holder = racer(path, "victim", 700)
    clock = BootClock()
    try:
        assert line(holder) == "ready"
        tell(holder)
        assert line(holder) == "won 1"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with contextlib.closing(SqliteLeaseStore(path, clock)) as store:
            held = store.acquire("s", "successor", TTL_MS, {})
            assert isinstance(held, LeaseHeld)
            assert (held.holder, held.epoch) == ("victim", 1)
            assert 0 < held.remaining_ms <= 700
            until = clock.now_us() + held.remaining_ms * 1000
            got: Lease | LeaseHeld = held
            while isinstance(got, LeaseHeld) and clock.now_us() < until + 2_000_000:
                select.select([], [], [], got.remaining_ms / 1000)
                if store.orphans():
                    assert store.orphans()[0].holder == "victim"
                got = store.acquire("s", "successor", TTL_MS, {})
            assert isinstance(got, Lease)
            assert got.epoch == 2
    finally:
        end(holder)


def test_the_boot_clock_runs_and_the_boot_has_a_name() -> None:
    clock = BootClock()
    first = clock.now_us()
    assert clock.now_us() >= first > 0
    assert clock.wall_clock_ms() > 1_600_000_000_000
    assert len(read_boot_id()) > 8
