"""``rspp-runtime retention-sweep``: removes evidence that is older than its tenant's policy allows."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators

from rspp.terminal import show_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rspp.evidence.retention import TenantSweep

REPORT = Path("artifacts/replay/retention-sweep-report.json")
MOST_RUNS = 100_000
KEPT_RESULTS = 1000
"""Runs that the report tells of, the latest ones."""


def retention_sweep(
    *,
    store: Path,
    tenants: str,
    policy: Path | None = None,
    report: Path = REPORT,
    now_ms: Annotated[int | None, Parameter(validator=validators.Number(gte=0))] = None,
    interval_ms: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 0,
    runs: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=MOST_RUNS))] = 1,
) -> int:
    """Remove recorded evidence that is older than its tenant's policy allows, class by class.

    Without --policy those of the control plane hold, where RSPP_CP_DISTRIBUTION_… names one, and else the
    defaults: 30 days, PII 7 days, PHI 1 day.

    Args:
        store: the evidence folder.
        tenants: whose evidence, as a list with commas.
        policy: JSON file with a policy, or with {"policies": [...]}; read anew for each run.
        report: where the report goes.
        now_ms: time of the first run, milliseconds since 1970, instead of the clock; no waiting between runs.
        interval_ms: time from one run to the next.
        runs: how many.

    Returns:
        0 when every run swept everything, 1 on any error.
    """
    from rspp.contracts.errors import RsppError

    try:
        done = sweep(
            store,
            tenants,
            policy=policy,
            now_ms=now_ms,
            interval_ms=interval_ms,
            runs=runs,
            sleep=time.sleep,
        )
        write_report(done, report)
    except RsppError as error:
        show_error(error.message, error.hint)
        return 1
    for result in done["run_results"][-1]["tenants"]:
        gone = ", ".join(f"{count} {name}" for name, count in result["deleted_by_class"].items() if count)
        print(f"{result['tenant_id']}: {result['deleted']} removed ({gone or 'nothing'})")
    print(f"report: {report}")
    return 0


def sweep(
    store: Path,
    tenants: str,
    *,
    policy: Path | None,
    now_ms: int | None,
    interval_ms: int,
    runs: int,
    sleep: Callable[[float], None],
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Sweep some tenants, several times.

    Args:
        store: the evidence folder.
        tenants: their names with commas between.
        policy: as the command's.
        now_ms: time of the first run; none takes the clock and waits between runs.
        interval_ms: time from one run to the next.
        runs: how many.
        sleep: waits that many seconds.
        environment: ``os.environ`` when absent; says where a control plane's policies come from.

    Returns:
        The report; of more than 1,000 runs it tells the last ones.

    Raises:
        ConfigurationError: no tenant, a name that is none, or no such folder.
        EvidenceError: the policy file is wrong, or a sweep failed; what was swept before stays swept.
    """
    import msgspec

    from rspp.contracts.errors import ConfigurationError
    from rspp.controlplane.retention import distributed_policies
    from rspp.evidence.audit_http import audit_sink
    from rspp.evidence.retention import resolve_policy, sweep_tenant
    from rspp.runtime.environment import tenant_name

    names = sorted({name.strip() for name in tenants.split(",") if name.strip()})
    if not names:
        raise ConfigurationError("--tenants names no tenant", hint="name at least one")
    for name in names:
        tenant_name(name)
    if not store.is_dir():
        raise ConfigurationError(f"--store {str(store)!r} is no folder", hint="name the evidence folder")
    sink = audit_sink(store)
    results: list[dict[str, Any]] = []
    swept: list[TenantSweep] = []
    sources: set[str] = set()
    reasons: set[str] = set()
    for number in range(runs):
        if number and now_ms is None:
            sleep(interval_ms / 1000)
        now = time.time_ns() // 1_000_000 if now_ms is None else now_ms + number * interval_ms
        # All of them first: a file that lacks one tenant must stop the sweep before anything is removed.
        if policy is None:
            resolved = distributed_policies(names, wall_clock_ms=now, environment=environment, sleep=sleep)
        else:
            resolved = [resolve_policy(policy, name) for name in names]
        swept = [sweep_tenant(store, one, sink, now_ms=now) for one in resolved]
        sources |= {one.source for one in resolved}
        reasons |= {one.fallback_reason for one in resolved}
        results.append({"run": number + 1, "now_ms": now, "tenants": msgspec.to_builtins(swept)})
        del results[:-KEPT_RESULTS]
    return {
        "generated_at_utc": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "store_path": str(store),
        "policy_path": "" if policy is None else str(policy),
        "policy_source": _one_of(sorted(sources)),
        "policy_fallback_reason": _one_of(sorted(reasons)),
        "tenants": names,
        "runs": runs,
        "interval_ms": interval_ms,
        "run_results": results,
        "final_records": sum(one.remaining for one in swept),
    }


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write a report, whole or not at all.

    Raises:
        ConfigurationError: it cannot be written.
    """
    from rspp.contracts.errors import ConfigurationError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        passing = path.with_name(f".{path.name}.{os.getpid()}")
        passing.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        passing.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"--report {str(path)!r} cannot be written: {error.strerror}",
            hint="the sweep itself was done; name a file in a folder that this user may write to",
        ) from error


def _one_of(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else "mixed"
