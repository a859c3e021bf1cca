"""What an artifact resolves to for a pipeline."""

from __future__ import annotations

import msgspec
import pytest

from rspp.controlplane.artifact import SECTIONS
from rspp.controlplane.resolution import INVALID, UNRESOLVED, Bundle, Unresolved, resolve
from tests.controlplane.snapshots import ISSUED_MS, REQUEST, Change, artifact, drop, put

NAME = REQUEST.pipeline_version


def bundle(*changes: Change) -> Bundle:
    found = resolve(artifact(*changes), REQUEST, wall_clock_ms=ISSUED_MS)
    assert isinstance(found, Bundle), found
    return found


def unresolved(*changes: Change) -> Unresolved:
    found = resolve(artifact(*changes), REQUEST, wall_clock_ms=ISSUED_MS)
    assert isinstance(found, Unresolved)
    return found


def test_a_template_lets_turns_open() -> None:
    found = bundle()
    assert (found.admission, found.authority_valid, found.authority_authorized) == ("admit", True, True)
    assert found.provenance["routing_view_snapshot"] == "routing-view/1"
    assert found.adaptive_actions == ("retry", "provider_switch", "fallback")
    assert set(found.sources) == {
        "CP-01",
        "CP-02",
        "CP-03",
        "CP-04",
        "CP-05",
        "CP-07",
        "CP-08",
        "CP-09",
        "CP-10",
    }


def test_the_entry_of_a_pipeline_beats_the_default() -> None:
    found = bundle(
        put(
            f"policy/by_pipeline/{NAME}",
            {"policy_resolution_snapshot": "own", "allowed_adaptive_actions": []},
        )
    )
    assert found.provenance["policy_resolution_snapshot"] == "own"
    assert found.adaptive_actions == ()
    assert found.sources["CP-04"] == f"policy.by_pipeline[{NAME}]"


def test_the_admission_reference_is_routings() -> None:
    found = bundle(put("admission/default/admission_policy_snapshot", "of-cp-05"))
    assert found.provenance["admission_policy_snapshot"] == "admission-policy/1"


def test_actions_are_in_the_order_of_the_contracts_and_unknown_ones_are_not_allowed() -> None:
    found = bundle(put("policy/default/allowed_adaptive_actions", ["fallback", "teleport", "retry"]))
    assert found.adaptive_actions == ("retry", "fallback")


def test_an_unknown_outcome_of_admission_is_a_reject() -> None:
    assert bundle(put("admission/default/outcome_kind", "perhaps")).admission == "reject"


@pytest.mark.parametrize(
    ("tenant", "said", "scope"),
    [("", "", "session"), ("default", "", "tenant"), ("default", "session", "session")],
)
def test_admission_is_for_the_tenant_where_one_is_known(tenant: str, said: str, scope: str) -> None:
    assert bundle(put("tenant_id", tenant), put("admission/default/scope", said)).admission_scope == scope


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_that_is_missing_opens_no_turn(section: str) -> None:
    found = unresolved(drop(section))
    assert (found.code, found.reason) == ("snapshot_missing", INVALID)
    assert section in found.message


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_that_is_stale_opens_no_turn(section: str) -> None:
    found = unresolved(put(f"{section}/stale", True))
    assert (found.code, found.reason) == ("snapshot_stale", INVALID)
    assert section in found.message


@pytest.mark.parametrize(
    "section", ["routing_view", "policy", "provider_health", "graph_compiler", "admission", "lease"]
)
def test_a_section_without_an_entry_for_the_pipeline_opens_no_turn(section: str) -> None:
    assert unresolved(put(section, {"by_pipeline": {"other@v1": {}}})).code == "snapshot_missing"


@pytest.mark.parametrize(
    "path",
    [
        "rollout/version_resolution_snapshot",
        "routing_view/default/routing_view_snapshot",
        "routing_view/default/admission_policy_snapshot",
        "routing_view/default/abi_compatibility_snapshot",
        "policy/default/policy_resolution_snapshot",
        "policy/default/allowed_adaptive_actions",
        "provider_health/default/provider_health_snapshot",
        "lease/default/authority_epoch_valid",
        "lease/default/authority_authorized",
        "admission/default/outcome_kind",
    ],
)
def test_an_answer_that_is_left_out_is_missing_and_no_default(path: str) -> None:
    found = unresolved(drop(path))
    assert (found.code, found.reason) == ("snapshot_missing", INVALID)
    assert path.split("/")[-1] in found.message


def test_a_retention_section_may_be_stale_or_missing() -> None:
    assert bundle(put("retention", {"stale": True})) == bundle()


@pytest.mark.parametrize(
    ("change", "module"),
    [
        (put("registry/records", {"other@v1": {}}), "CP-01"),
        (put(f"registry/records/{NAME}/execution_profile", "turbo"), "CP-02"),
        (put(f"registry/records/{NAME}/graph_definition_ref", "graph/other"), "CP-02"),
        (put(f"registry/records/{NAME}/pipeline_version", "other@v1"), "CP-02"),
        (put(f"rollout/by_requested_version/{NAME}", "desk@v2"), "CP-09"),
        (put(f"graph_compiler/by_pipeline/{NAME}/graph_definition_ref", "graph/other"), "CP-03"),
    ],
)
def test_what_this_runtime_does_not_run_cannot_be_resolved(change: Change, module: str) -> None:
    found = unresolved(change)
    assert (found.module, found.reason) == (module, UNRESOLVED)


def test_modules_are_asked_in_order_and_the_first_failure_decides() -> None:
    modules = {"routing_view": "CP-08", "provider_health": "CP-10", "policy": "CP-04", "lease": "CP-07"}
    left = ["routing_view", "provider_health", "policy", "lease", "admission"]
    for name, module in modules.items():
        assert unresolved(*(drop(other) for other in left)).module == module
        left.remove(name)


@pytest.mark.parametrize(("low", "high"), [("v1.1", "v2.0"), ("v0.1", "v0.9")])
def test_an_artifact_for_other_event_schemas_is_incompatible(low: str, high: str) -> None:
    found = unresolved(put("compatibility", {"schema_min": low, "schema_max": high}))
    assert (found.code, found.reason) == ("snapshot_incompatible", INVALID)


def test_an_artifact_of_another_tenant_is_incompatible() -> None:
    found = unresolved(put("tenant_id", "somebody"))
    assert (found.code, found.reason) == ("snapshot_incompatible", INVALID)


def test_an_artifact_is_stale_from_its_expiry_on() -> None:
    short = artifact(valid_s=2.0)
    assert isinstance(resolve(short, REQUEST, wall_clock_ms=short.expires_ms - 1), Bundle)
    late = resolve(short, REQUEST, wall_clock_ms=short.expires_ms)
    assert isinstance(late, Unresolved)
    assert late.code == "snapshot_stale"


def test_a_failure_is_told_without_provenance_and_for_good() -> None:
    told = unresolved(put("stale", True)).told(usable_until_us=5, claim_us=7)
    assert (told.failure, told.provenance, told.claim_us) == (INVALID, {}, 7)
    assert told.usable_until_us > 10**18


def test_a_bundle_is_told_as_it_is() -> None:
    told = bundle(put("lease/default/authority_epoch", 4)).told(usable_until_us=5, claim_us=7)
    assert told == msgspec.structs.replace(
        told, usable_until_us=5, authority_epoch=4, failure="", admission="admit", version=1
    )
    assert len(told.provenance) == 6
