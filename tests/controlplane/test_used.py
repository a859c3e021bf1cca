"""What a runtime remembers of snapshots across restarts."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from rspp.contracts.errors import ConfigurationError
from rspp.controlplane.artifact import SnapshotError
from rspp.controlplane.refreshing import control_plane_running
from rspp.controlplane.sources import EnvironmentSource, FileSource, HttpSource
from rspp.controlplane.used import USED_FILE, UsedSnapshots, used_snapshots
from rspp.session.offload import InlineOffloader
from rspp.session.virtual_time import run_virtual
from tests.controlplane.snapshots import (
    FakeSleep,
    FakeSource,
    artifact,
    encoded,
    put,
    settings_of,
    virtual_clock,
)

if TYPE_CHECKING:
    from pathlib import Path

LATER = put("issued_at_utc", "2023-11-14T22:13:19.5Z")


def started(folder: Path, *sources: FakeSource, tenant: str = "default", then: bytes = b"") -> int:
    """Start a runtime's control plane, let it refresh once and end it; returns the version in force."""

    async def main() -> int:
        settings = settings_of(*sources)
        used = used_snapshots(folder, settings, tenant)
        async with control_plane_running(
            settings, virtual_clock(), InlineOffloader(), FakeSleep(), used
        ) as plane:
            assert plane is not None
            if then:
                sources[0].answer = then
            await plane.refresh()
            return plane.version

    return run_virtual(main())


def refused(folder: Path, *sources: FakeSource, tenant: str = "default") -> SnapshotError:
    with pytest.raises(SnapshotError) as caught:
        started(folder, *sources, tenant=tenant)
    assert caught.value.code == "snapshot_older"
    return caught.value


def test_after_a_restart_nothing_older_is_taken_than_what_was_used(tmp_path: Path) -> None:
    assert started(tmp_path, FakeSource(encoded(version=3)), then=encoded(version=5)) == 5
    told = refused(tmp_path, FakeSource(encoded(version=4)))
    assert "snapshot_version 4 of 2023-11-14T22:13:19Z is older than 5 of " in told.message
    assert "used before this start" in told.message
    assert "higher snapshot_version" in told.hint
    assert str(tmp_path / USED_FILE) in told.hint
    assert started(tmp_path, FakeSource(encoded(version=5))) == 5
    assert started(tmp_path, FakeSource(encoded(version=6))) == 6
    assert started(tmp_path, FakeSource(encoded(version=4)), FakeSource(encoded(version=6), "other")) == 6


def test_a_running_process_refuses_what_was_used_before_it_too(tmp_path: Path) -> None:
    assert started(tmp_path, FakeSource(encoded(version=5)), then=encoded(version=4)) == 5


def test_an_earlier_issue_of_the_same_version_is_older(tmp_path: Path) -> None:
    assert started(tmp_path, FakeSource(encoded(LATER))) == 1
    refused(tmp_path, FakeSource(encoded()))
    assert started(tmp_path, FakeSource(encoded(LATER))) == 1


def test_each_source_and_each_tenant_has_its_own(tmp_path: Path) -> None:
    assert started(tmp_path, FakeSource(encoded(version=5), "a")) == 5
    assert started(tmp_path, FakeSource(encoded(version=2), "b")) == 2
    assert started(tmp_path, FakeSource(encoded(version=2), "a"), tenant="other") == 2
    refused(tmp_path, FakeSource(encoded(version=4), "a"))


def test_endpoints_of_one_control_plane_remember_together(tmp_path: Path) -> None:
    assert started(tmp_path, FakeSource(encoded(version=5), "a"), FakeSource(encoded(version=4), "b")) == 5
    refused(tmp_path, FakeSource(encoded(version=4), "b"))
    refused(tmp_path, FakeSource(encoded(version=4), "new"), FakeSource(encoded(version=4), "b"))


@pytest.mark.parametrize(
    "unusable",
    [
        put("lease/stale", True),
        put("tenant_id", "somebody"),
        put("compatibility", {"schema_min": "v7.0", "schema_max": "v8.0"}),
    ],
)
def test_what_no_turn_may_open_from_is_not_remembered(tmp_path: Path, unusable: Any) -> None:
    started(tmp_path, FakeSource(encoded(version=2)), then=encoded(unusable, version=9))
    assert started(tmp_path, FakeSource(encoded(version=3))) == 3


def test_of_two_runtimes_the_higher_stays(tmp_path: Path) -> None:
    source = FakeSource()
    slow, fast = (UsedSnapshots(tmp_path / USED_FILE, [source], "default") for _ in range(2))
    slow.note(artifact(version=2))
    fast.note(artifact(version=7))
    slow.note(artifact(version=3))
    latest = slow.latest()
    assert latest is not None
    assert latest.order == artifact(version=7).order


def test_what_does_not_rise_is_not_written_again(tmp_path: Path) -> None:
    used = UsedSnapshots(tmp_path / USED_FILE, [FakeSource()], "default")
    used.note(artifact(version=2))
    (tmp_path / USED_FILE).unlink()
    used.note(artifact(version=2))
    assert not (tmp_path / USED_FILE).exists()
    used.note(artifact(version=3))
    assert (tmp_path / USED_FILE).exists()


def test_the_file_is_private_and_holds_no_address(tmp_path: Path) -> None:
    source = HttpSource("https://plane.example/snapshots?token=s3cret", timeout_ms=1)
    UsedSnapshots(tmp_path / USED_FILE, [source], "default").note(artifact())
    assert stat.S_IMODE((tmp_path / USED_FILE).stat().st_mode) == 0o600
    assert b"s3cret" not in (tmp_path / USED_FILE).read_bytes()


def test_sources_are_told_apart_by_all_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    addresses = [HttpSource(f"https://plane.example/{path}", timeout_ms=1) for path in "ab"]
    assert addresses[0].name == addresses[1].name
    assert addresses[0].identity != addresses[1].identity
    relative = FileSource(tmp_path.relative_to(tmp_path) / "a.json")
    assert relative.identity == FileSource(tmp_path / "a.json").identity
    assert EnvironmentSource("A", {}).identity == "env:A"


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be read as one", b"\0" * 4096])
def test_a_damaged_file_stops_the_start_with_a_remedy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / USED_FILE).write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        started(tmp_path, FakeSource(encoded()))
    assert str(tmp_path / USED_FILE) in caught.value.message
    assert "remove it" in caught.value.hint


def test_a_nonsense_row_stops_the_start_with_a_remedy(tmp_path: Path) -> None:
    assert started(tmp_path, FakeSource(encoded())) == 1
    for value in ("x", 1 << 62):
        with closing(sqlite3.connect(tmp_path / USED_FILE)) as connection, connection:
            connection.execute("UPDATE used SET issued_us = ?", (value,))
        with pytest.raises(ConfigurationError, match="no snapshot"):
            started(tmp_path, FakeSource(encoded()))


def test_calls_go_on_when_nothing_can_be_remembered_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = FakeSource(encoded())

    async def main() -> int:
        settings = settings_of(source)
        used = used_snapshots(tmp_path, settings, "default")
        opened = control_plane_running(settings, virtual_clock(), InlineOffloader(), FakeSleep(), used)
        async with opened as plane:
            assert plane is not None
            (tmp_path / USED_FILE).write_bytes(b"broken" * 1000)
            for version in (2, 3):
                source.answer = encoded(version=version)
                await plane.refresh()
            return plane.version

    assert run_virtual(main()) == 3
    said = capsys.readouterr()
    assert (said.out + said.err).count("cannot be remembered") == 1


def test_without_a_control_plane_nothing_is_remembered(tmp_path: Path) -> None:
    assert used_snapshots(tmp_path, None, "default") is None
