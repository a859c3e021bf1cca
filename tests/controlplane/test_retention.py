"""Retention policies out of the control plane's artifact: whose they are, where from, and why not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from rspp.contracts.errors import ConfigurationError
from rspp.controlplane.retention import distributed_policies
from rspp.evidence.payloads import PayloadStore
from rspp.runtime.retention import sweep
from tests.controlplane.snapshots import ISSUED_MS, FakeSleep, artifact, document, drop, encoded, put, serving

if TYPE_CHECKING:
    from pathlib import Path

    from rspp.evidence.retention import ResolvedPolicy
    from tests.controlplane.snapshots import Change

HOUR_MS = 3_600_000
POLICY: dict[str, Any] = {
    "default_retention_ms": 1000,
    "max_retention_by_class_ms": {"PII": 300, "PHI": 200, "text_raw": HOUR_MS},
}
SECTION = {
    "default_policy": POLICY | {"default_retention_ms": 2000, "later_field": True},
    "tenant_policies": {"acme": POLICY},
}


def resolved(path: Path, *changes: Change, tenant: str = "acme", valid_s: float = 86_400.0) -> ResolvedPolicy:
    path.write_bytes(encoded(put("retention", SECTION), *changes, valid_s=valid_s))
    (found,) = distributed_policies(
        [tenant], wall_clock_ms=ISSUED_MS, environment={"RSPP_CP_DISTRIBUTION_PATH": str(path)}
    )
    return found


def test_a_tenants_own_policy_beats_the_default(tmp_path: Path) -> None:
    own = resolved(tmp_path / "a.json")
    assert (own.source, own.fallback_reason) == ("cp_distribution_file", "")
    assert (own.policy.tenant_id, own.policy.window_ms("metadata")) == ("acme", 1000)
    other = resolved(tmp_path / "a.json", tenant="other")
    assert (other.policy.tenant_id, other.policy.window_ms("metadata")) == ("other", 2000)
    assert other.policy.window_ms("text_raw") == HOUR_MS


def test_addresses_beat_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(encoded(put("retention", {"default_policy": POLICY | {"default_retention_ms": 5}})))
    with serving(encoded(put("retention", SECTION))) as server:
        environment = {"RSPP_CP_DISTRIBUTION_PATH": str(path), "RSPP_CP_DISTRIBUTION_HTTP_URLS": server.url}
        first, second = distributed_policies(
            ["acme", "other"], wall_clock_ms=ISSUED_MS, environment=environment
        )
        assert len(server.requests) == 1
    assert (first.source, second.source) == ("cp_distribution_http", "cp_distribution_http")
    assert (first.policy.window_ms("metadata"), second.policy.window_ms("metadata")) == (1000, 2000)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop("retention"), "fetch_failed"),
        (put("retention", {}), "fetch_failed"),
        (put("schema_version", "cp/v9"), "fetch_failed"),
        (put("retention/stale", True), "snapshot_stale"),
        (put("stale", True), "snapshot_stale"),
        (put("lease/stale", True), "snapshot_stale"),
        (put("retention", 5), "policy_invalid"),
        (put("retention/tenant_policies/acme", {"default_retention_ms": 0}), "policy_invalid"),
        (put("retention/tenant_policies/acme", POLICY | {"tenant_id": "other"}), "policy_invalid"),
        (put("retention/tenant_policies/acme/max_retention_by_class_ms", {"PII": 1}), "policy_invalid"),
        (put("retention/tenant_policies/acme/pii_retention_limit_ms", 299), "policy_invalid"),
        (put("tenant_id", "other"), "policy_invalid"),
    ],
)
def test_what_cannot_be_used_leaves_the_defaults_and_says_why(
    change: Change, reason: str, tmp_path: Path
) -> None:
    made = msgspec.json.decode(msgspec.json.encode(document(put("retention", SECTION))))
    change(made)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(made), "utf-8")
    (found,) = distributed_policies(
        ["acme"], wall_clock_ms=ISSUED_MS, environment={"RSPP_CP_DISTRIBUTION_PATH": str(path)}
    )
    assert (found.source, found.fallback_reason) == ("default_fallback", f"cp_distribution_{reason}")
    assert found.policy.window_ms("metadata") == 30 * 24 * HOUR_MS


def test_a_control_plane_that_is_away_or_out_of_date_leaves_the_defaults(tmp_path: Path) -> None:
    sleep = FakeSleep()
    environment = {"RSPP_CP_DISTRIBUTION_PATH": str(tmp_path / "none.json")}
    (found,) = distributed_policies(["acme"], wall_clock_ms=1, environment=environment, sleep=sleep)
    assert found.fallback_reason == "cp_distribution_fetch_failed"
    assert resolved(tmp_path / "a.json", valid_s=1.0).fallback_reason == "cp_distribution_snapshot_stale"
    with pytest.raises(ConfigurationError, match="in clear"):
        distributed_policies(
            ["acme"], wall_clock_ms=1, environment={"RSPP_CP_DISTRIBUTION_HTTP_URL": "http://far.example"}
        )


def test_what_turns_start_from_is_the_same_whatever_the_retention() -> None:
    assert artifact(put("retention", SECTION)).digest() == artifact(put("retention", 5)).digest()


def test_a_sweep_keeps_what_the_control_plane_keeps_and_asks_anew_for_each_run(tmp_path: Path) -> None:
    store = PayloadStore(tmp_path, "acme", wall_ms=lambda: ISSUED_MS)
    store.append("call-1", 1, "text_raw", 1, b"hello", action="allow")
    store.close()
    path = tmp_path / "a.json"
    path.write_bytes(encoded(put("retention", SECTION)))
    environment = {"RSPP_CP_DISTRIBUTION_PATH": str(path)}

    def swept(now_ms: int) -> dict[str, Any]:
        return sweep(
            tmp_path,
            "acme",
            policy=None,
            now_ms=now_ms,
            interval_ms=1,
            runs=2,
            sleep=FakeSleep(),
            environment=environment,
        )

    report = swept(ISSUED_MS + HOUR_MS - 1)
    assert [run["tenants"][0]["deleted"] for run in report["run_results"]] == [0, 0]
    assert (report["policy_source"], report["policy_fallback_reason"]) == ("cp_distribution_file", "")
    report = swept(ISSUED_MS + HOUR_MS)
    assert [run["tenants"][0]["deleted"] for run in report["run_results"]] == [0, 1]
    assert report["final_records"] == 0
