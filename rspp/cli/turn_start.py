"""The commands of ``rspp-cli`` about snapshots of the control plane."""

from __future__ import annotations

import sys
import time
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations when it parses
from typing import Annotated, Any

from cyclopts import Parameter, validators

from rspp.terminal import print_json, style_of

MAX_HOURS = 24 * 366


def resolve_turn_start(file: Path, *, control_plane: str = "", tenant: str = "", json: bool = False) -> int:
    """Show what a turn of a pipeline would start from, and whether one would open.

    Args:
        file: pipeline file.
        control_plane: FILE, env:NAME or URL[,URL...] of the snapshot; the RSPP_CP_DISTRIBUTION_ variables
            otherwise.
        tenant: whose session it would be; RSPP_TENANT, else default.
        json: print one JSON object instead of lines.

    Returns:
        0 when a turn would open, 1 when none would.
    """
    import msgspec

    from rspp.contracts.errors import ConfigurationError
    from rspp.controlplane.answer import OPEN, turn_answer
    from rspp.controlplane.reading import ArtifactReader
    from rspp.controlplane.resolution import Bundle, resolve
    from rspp.controlplane.settings import control_plane_settings
    from rspp.pipeline.loader import load_pipeline
    from rspp.pipeline.turn_start import turn_start_request
    from rspp.runtime.environment import tenant_name

    spec = load_pipeline(file)
    request = turn_start_request(spec, tenant_name(tenant))
    settings = control_plane_settings(control_plane)
    if settings is None:
        raise ConfigurationError(
            "no control plane is named",
            hint="add --control-plane FILE or URL, or set RSPP_CP_DISTRIBUTION_PATH",
        )
    now_ms = time.time_ns() // 1_000_000
    received = ArtifactReader(settings).read(now_ms)
    resolved = resolve(received.artifact, request, wall_clock_ms=now_ms)
    answer = turn_answer(spec, resolved, settings)
    document = {
        "pipeline_version": request.pipeline_version,
        "source": received.source,
        "problems": list(received.problems),
        "issued_at_utc": received.artifact.issued_at_utc.isoformat(),
        "expires_at_utc": received.artifact.expires_at_utc.isoformat(),
        "turn": msgspec.to_builtins(answer),
        "bundle" if isinstance(resolved, Bundle) else "problem": msgspec.to_builtins(resolved),
    }
    if json:
        print_json(document)
    else:
        _show(document)
    return 0 if answer.outcome == OPEN else 1


def snapshot_template(
    file: Path,
    *,
    snapshot_version: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 1,
    hours: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=MAX_HOURS))] = 24,
) -> int:
    """Print a control-plane snapshot under which every turn of a pipeline opens, to start from.

    Args:
        file: pipeline file.
        snapshot_version: number of the snapshot; raise it with every change.
        hours: how long it holds.
    """
    import datetime

    from rspp.controlplane.template import artifact_template
    from rspp.pipeline.loader import load_pipeline

    now = datetime.datetime.now(datetime.UTC)
    print_json(
        artifact_template(
            load_pipeline(file), issued=now, valid=datetime.timedelta(hours=hours), version=snapshot_version
        )
    )
    return 0


def _show(document: dict[str, Any]) -> None:
    style = style_of(sys.stdout)
    for problem in document["problems"]:
        print(f"passed over: {problem}", file=sys.stderr)
    print(f"{document['pipeline_version']} from {document['source']}")
    print(f"issued {document['issued_at_utc']}, expires {document['expires_at_utc']}")
    bundle = document.get("bundle")
    if bundle is None:
        problem = document["problem"]
        print(f"snapshot {problem['snapshot_version']}")
        print(
            f"{problem['code']}: {problem['message']}"
            + (f" ({problem['module']})" if problem["module"] else "")
        )
    else:
        _show_bundle(bundle)
    turn = document["turn"]
    if turn["outcome"] == "open":
        print(style.good("a turn would open"))
    else:
        reason = f", reason {turn['reason']}" if turn["reason"] else ""
        print(f"{style.bad('no turn would open')}: {turn['outcome']} by {turn['decided_by']}{reason}")


def _show_bundle(bundle: dict[str, Any]) -> None:
    from rspp.controlplane.artifact import MODULES

    print(f"snapshot {bundle['snapshot_version']}")
    sources = bundle["sources"]
    rows = [(name, value, sources[MODULES[name]]) for name, value in bundle["provenance"].items()]
    rows.append(("adaptive_actions", ", ".join(bundle["adaptive_actions"]) or "none", sources["CP-04"]))
    stated = f"epoch {bundle['authority_epoch']}" if bundle["authority_epoch"] else "no epoch stated"
    valid = "valid" if bundle["authority_valid"] else "not valid"
    authorized = "authorised" if bundle["authority_authorized"] else "not authorised"
    rows.append(("authority", f"{stated}, {valid}, {authorized}", sources["CP-07"]))
    why = f": {bundle['admission_reason']}" if bundle["admission_reason"] else ""
    said = f"{bundle['admission']} for the {bundle['admission_scope']}{why}"
    rows.append(("admission", said, sources["CP-05"]))
    rows.append(("graph", bundle["graph_definition_ref"], sources["CP-03"]))
    rows.append(("profile", bundle["execution_profile"], sources["CP-02"]))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for name, value, source in rows:
        print(f"  {name:{widths[0]}}  {value:{widths[1]}}  {source}")
