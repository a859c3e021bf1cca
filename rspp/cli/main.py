"""``rspp-cli``: checks and shows pipeline files, contracts and recordings."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rspp.terminal import answer_version, run_app, run_command, version

if TYPE_CHECKING:
    from cyclopts import App


def build_app() -> App:
    """Return the command line of ``rspp-cli``."""
    from cyclopts import App

    from rspp.cli.contracts import validate_contracts, validate_contracts_report, validate_stream
    from rspp.cli.evidence import evidence_app
    from rspp.cli.gates import (
        generate_runtime_baseline,
        publish_release,
        replay_regression_report,
        replay_smoke_report,
        slo_gates_report,
    )
    from rspp.cli.replay import render_audio, replay, what_if
    from rspp.cli.snapshots import generate_snapshot_key, sign_snapshot, verify_snapshot
    from rspp.cli.specs import schema, show_pipeline, show_plan, validate_spec
    from rspp.cli.timeline import report, timeline_app
    from rspp.cli.turn_start import resolve_turn_start, snapshot_template
    from rspp.cli.verification import verify_evidence

    app = App(
        name="rspp-cli", help="Check and show pipeline files, contracts and recordings.", version=version
    )
    app.command(validate_spec, name=("validate-spec", "validate-pipeline"))
    commands = (
        show_plan,
        show_pipeline,
        schema,
        resolve_turn_start,
        snapshot_template,
        generate_snapshot_key,
        sign_snapshot,
        verify_snapshot,
        validate_contracts,
        validate_contracts_report,
        validate_stream,
        verify_evidence,
        generate_runtime_baseline,
        slo_gates_report,
        replay_smoke_report,
        replay_regression_report,
        publish_release,
        report,
        replay,
        what_if,
        render_audio,
    )
    for command in commands:
        app.command(command)
    app.command(evidence_app)
    app.command(timeline_app)
    return app


def run(arguments: list[str]) -> int:
    """Run ``rspp-cli`` with ``arguments`` and return its exit status."""
    if answer_version("rspp-cli", arguments):
        return 0
    # Within, so that the keyboard may stop the imports too.
    return run_command(lambda: run_app(build_app(), arguments))


def _run() -> int:
    # Some commands hold calls, and what these log is no result.
    from rspp.runtime.logs import set_up_logs

    set_up_logs()
    return run_app(build_app())


def main() -> None:
    """Entry point of ``rspp-cli``."""
    if not answer_version("rspp-cli"):
        sys.exit(run_command(_run))
