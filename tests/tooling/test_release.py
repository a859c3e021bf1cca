"""``rspp-cli publish-release`` over the reports that the other commands really write."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from rspp.cli.main import run
from rspp.pipeline import schema
from rspp.pipeline.release import ReleaseManifest, release_id
from rspp.pipeline.rollout import parse_rollout
from rspp.session.virtual_time import run_virtual
from rspp.tooling import baseline
from rspp.tooling.baseline_calls import REAL_SCRIPT, VIRTUAL, _hold_virtual, hold_scripted
from rspp.tooling.caller.script import parse_script
from rspp.tooling.caller.sound import prepare
from rspp.tooling.faults import SPEECH_PROGRAM
from rspp.tooling.readiness import CONTRACTS, MAX_AGE, MAX_AHEAD, REPLAY, REPORTS, SLO
from rspp.tooling.release import ReleaseInputs, make_manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from rspp.tooling.baseline_calls import HeldScenario

SPEC_TEXT = """\
name: desk
version: v7
profile: slow
greeting: "Hello."
llm: {provider: rules, rules: [{hear: hello, say: "Hi."}]}
"""
PROFILE_TEXT = "name: slow\nbudgets: {turn_ms: 8000}\n"
ROLLOUT: dict[str, Any] = {
    "pipeline_version": "desk@v7",
    "strategy": "phased",
    "rollback_posture": {"mode": "manual", "trigger": "a caller complains"},
}
FILES = {
    CONTRACTS: Path("artifacts/contracts/contracts-report.json"),
    REPLAY: Path("artifacts/replay/regression-report.json"),
    SLO: Path("artifacts/ops/slo-gates-report.json"),
}
MANIFEST = Path("artifacts/release/release-manifest.json")


@pytest.fixture(scope="module")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands of the gates have run, each with its defaults."""
    folder = tmp_path_factory.mktemp("gates")
    script = parse_script(REAL_SCRIPT)
    sounds = asyncio.run(prepare(script, SPEECH_PROGRAM, folder))

    def hold_real(_: int) -> list[HeldScenario]:
        # The same calls as in real time, on a clock that does not wait.
        return run_virtual(hold_scripted(1, script, sounds))

    chosen = ("rd-001-smoke", "ae-003-old-placement")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(
            baseline, "hold_virtual", lambda: [_hold_virtual(name, VIRTUAL[name]) for name in chosen]
        )
        patch.setattr(baseline, "hold_real", hold_real)
        for command in (
            "validate-contracts-report",
            "replay-smoke-report",
            "replay-regression-report",
            "generate-runtime-baseline",
            "slo-gates-report",
        ):
            assert run([command]) == 0, command
    return folder


@pytest.fixture
def desk(gates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with those reports, a pipeline with a profile beside it, and how it is rolled out."""
    shutil.copytree(gates / "artifacts", tmp_path / "artifacts")
    (tmp_path / "desk.yaml").write_text(SPEC_TEXT, "utf-8")
    (tmp_path / "slow.profile.yaml").write_text(PROFILE_TEXT, "utf-8")
    (tmp_path / "desk.rollout.json").write_text(json.dumps(ROLLOUT), "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def publish(*more: str) -> int:
    return run(["publish-release", "desk.yaml", "desk.rollout.json", *more])


def manifest_of(path: Path = MANIFEST) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    jsonschema.Draft202012Validator(schema.schema_of("release")).validate(document)
    return document


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made(now: datetime | None = None) -> ReleaseManifest:
    inputs = ReleaseInputs(Path("desk.yaml"), Path("desk.rollout.json"), *FILES.values())
    return make_manifest(inputs, now or datetime.now(UTC))


def test_g_10_a_release_is_published_over_the_reports_of_its_own_tool(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish() == 0
    told = capsys.readouterr().out
    manifest = manifest_of()
    assert f"passed: {manifest['release_id']} releases desk@v7" in told
    assert manifest["status"] == "published"
    moment, digest = re.fullmatch(r"rel-(\d{14})-([0-9a-f]{10})", manifest["release_id"]).groups()  # type: ignore[union-attr]
    assert moment == re.sub(r"\D", "", manifest["generated_at_utc"])[:14]
    asked = "desk.yaml|desk@v7|phased|manual|a caller complains"
    assert digest == hashlib.sha256(asked.encode()).hexdigest()[:10]
    assert (manifest["spec_ref"], manifest["rollout_config"]) == ("desk.yaml", ROLLOUT)
    assert [check["name"] for check in manifest["readiness"]["checks"]] == list(REPORTS)
    assert all(check["passed"] and check["age_ms"] >= 0 for check in manifest["readiness"]["checks"])
    assert manifest["readiness"] | {"checks": []} == {
        "passed": True,
        "max_artifact_age_ms": 24 * 3600 * 1000,
        "checks": [],
        "violations": [],
    }
    artifacts = manifest["source_artifacts"]
    assert set(artifacts) == {*REPORTS, "rollout_config", "pipeline_spec"}
    for artifact in artifacts.values():
        assert artifact["sha256"] == hash_of(desk / artifact["path"])
    for name in REPORTS:
        written = json.loads(FILES[name].read_text("utf-8"))
        assert artifacts[name]["generated_at_utc"] == written["generated_at_utc"]
    page = MANIFEST.with_suffix(".md").read_text("utf-8")
    assert manifest["release_id"] in page
    assert manifest["pipeline"]["spec_digest"] in page


def edited(name: str, *way: str, to: Any) -> Callable[[], None]:
    def edit() -> None:
        document = json.loads(FILES[name].read_text("utf-8"))
        place = document
        for step in way[:-1]:
            place = place[step]
        assert way[-1] in place
        if to is None:
            del place[way[-1]]
        else:
            place[way[-1]] = to() if callable(to) else to
        FILES[name].write_text(json.dumps(document), "utf-8")

    return edit


def moved(seconds: float) -> Callable[[], str]:
    return lambda: (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def written(name: str, content: bytes) -> Callable[[], None]:
    def write() -> None:
        FILES[name].write_bytes(content)

    return write


def replaced(name: str, source: str) -> Callable[[], None]:
    def copy() -> None:
        shutil.copyfile(source, FILES[name])

    return copy


def cut(name: str) -> Callable[[], None]:
    def halve() -> None:
        content = FILES[name].read_bytes()
        FILES[name].write_bytes(content[: len(content) // 2])

    return halve


def gone(name: str, *, folder: bool = False) -> Callable[[], None]:
    def remove() -> None:
        FILES[name].unlink()
        if folder:
            FILES[name].mkdir()

    return remove


DAY = MAX_AGE.total_seconds()
BROKEN: dict[str, tuple[str, str, Callable[[], None]]] = {
    **{f"{name} is deleted": (name, "missing", gone(name)) for name in REPORTS},
    **{f"{name} is a folder": (name, "unreadable", gone(name, folder=True)) for name in REPORTS},
    **{f"{name} is cut": (name, "invalid", cut(name)) for name in REPORTS},
    **{
        f"{name} is a day old": (name, "stale", edited(name, "generated_at_utc", to=moved(-DAY - 1)))
        for name in REPORTS
    },
    **{
        f"{name} is of tomorrow": (name, "from_the_future", edited(name, "generated_at_utc", to=moved(360)))
        for name in REPORTS
    },
    **{
        f"{name} has no zone": (name, "invalid", edited(name, "generated_at_utc", to="2026-01-01T00:00:00"))
        for name in REPORTS
    },
    **{
        f"{name} has no time": (name, "invalid", edited(name, "generated_at_utc", to=None))
        for name in REPORTS
    },
    **{f"{name} is another one": (name, "invalid", replaced(name, "desk.rollout.json")) for name in REPORTS},
    "a bottomless report": (SLO, "invalid", written(SLO, b'{"x":' + b"[" * 100_000)),
    "a report that is no text": (SLO, "invalid", written(SLO, b'{"generated_at_utc":"\xff"}')),
    "contracts failed": (CONTRACTS, "failing", edited(CONTRACTS, "passed", to=False)),
    "contracts say so in words": (CONTRACTS, "invalid", edited(CONTRACTS, "passed", to="true")),
    "one fixture failed": (CONTRACTS, "failing", edited(CONTRACTS, "summary", "Failed", to=1)),
    "no fixture": (CONTRACTS, "failing", edited(CONTRACTS, "summary", "Total", to=0)),
    "no summary": (CONTRACTS, "invalid", edited(CONTRACTS, "summary", to=None)),
    "a failing divergence": (REPLAY, "failing", edited(REPLAY, "failing_count", to=1)),
    "fewer than none failing": (REPLAY, "invalid", edited(REPLAY, "failing_count", to=-1)),
    "an unexplained divergence": (REPLAY, "failing", edited(REPLAY, "unexplained_count", to=1)),
    "nothing replayed": (REPLAY, "failing", edited(REPLAY, "fixture_count", to=0)),
    "the quick gate": (REPLAY, "failing", edited(REPLAY, "gate", to="quick")),
    "the smoke report": (REPLAY, "invalid", replaced(REPLAY, "artifacts/replay/smoke-report.json")),
    "gates failed": (SLO, "failing", edited(SLO, "report", "passed", to=False)),
    "a violation": (SLO, "failing", edited(SLO, "report", "violations", to=["p95 is 9 s"])),
    "no turn": (SLO, "failing", edited(SLO, "report", "accepted_turns", to=0)),
    "an old baseline": (SLO, "stale", edited(SLO, "baseline_generated_at_utc", to=moved(-DAY - 1))),
}


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("case", BROKEN)
def test_g_10_a_report_that_is_broken_refuses_the_release_by_its_name(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, reason, breaks = BROKEN[case]
    assert publish() == 0
    breaks()
    capsys.readouterr()
    assert publish() == 1
    told = capsys.readouterr()
    assert f"failed: readiness: {name}; desk@v7 is not released" in told.out
    assert (f"violation: {name}: " in told.out, told.err) == (True, "")
    manifest = manifest_of()
    assert (manifest["status"], "release_id" in manifest) == ("refused", False)
    assert not manifest["readiness"]["passed"]
    found = {check["name"]: check["reason"] for check in manifest["readiness"]["checks"]}
    assert found == dict.fromkeys(REPORTS, "passed") | {name: reason}
    (violation,) = manifest["readiness"]["violations"]
    assert violation.startswith(f"{name}: ")
    assert "make it again with rspp-cli " in violation
    assert (name in manifest["source_artifacts"]) == (reason not in ("missing", "unreadable"))
    assert violation.replace("|", "\\|") in MANIFEST.with_suffix(".md").read_text("utf-8")


@pytest.mark.usefixtures("desk")
def test_reports_of_the_contracts_shapes_count_to_the_millisecond() -> None:
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    for name in REPORTS:
        edited(name, "generated_at_utc", to=moment.isoformat())()
    edited(SLO, "baseline_generated_at_utc", to=moment.isoformat())()
    millisecond = timedelta(milliseconds=1)
    oldest = made(moment + MAX_AGE)
    assert oldest.readiness.passed
    assert {check.age_ms for check in oldest.readiness.checks} == {86_400_000}
    assert not made(moment + MAX_AGE + millisecond).readiness.passed
    assert made(moment - MAX_AHEAD).readiness.passed
    early = made(moment - MAX_AHEAD - millisecond)
    assert {check.reason for check in early.readiness.checks} == {"from_the_future"}
    assert {check.age_ms for check in early.readiness.checks} == {-300_001}


def test_a_release_is_named_in_universal_time() -> None:
    rollout = parse_rollout(json.dumps(ROLLOUT), "r")
    east = datetime.fromisoformat("2026-03-01T01:02:03+02:00")
    assert release_id("desk.yaml", rollout, east).startswith("rel-20260228230203-")


def test_a_release_is_bound_to_its_content_and_not_to_its_name(desk: Path) -> None:
    now = datetime.now(UTC)
    first = made(now)
    (desk / "desk.yaml").write_text(f"# the same\n{SPEC_TEXT}", "utf-8")
    commented = made(now)
    assert commented.release_id == first.release_id
    assert commented.pipeline.spec_sha256 == hash_of(desk / "desk.yaml") != first.pipeline.spec_sha256
    assert commented.pipeline.spec_digest == first.pipeline.spec_digest
    (desk / "desk.yaml").write_text(SPEC_TEXT.replace("Hello.", "Good day."), "utf-8")
    assert made(now).pipeline.spec_digest != first.pipeline.spec_digest
    (desk / "desk.yaml").write_text(SPEC_TEXT, "utf-8")
    assert made(now) == first
    (desk / "slow.profile.yaml").write_text(PROFILE_TEXT.replace("8000", "9000"), "utf-8")
    slower = made(now)
    assert slower.pipeline.spec_sha256 == first.pipeline.spec_sha256
    assert slower.pipeline.profile_digests.keys() == {"slow"}
    for field in ("profile_digests", "spec_digest", "plan_policy_digest"):
        assert getattr(slower.pipeline, field) != getattr(first.pipeline, field), field


def changed(**fields: Any) -> str:
    return json.dumps({name: value for name, value in (ROLLOUT | fields).items() if value is not None})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (changed(stategy="canary"), ["stategy: unknown key", "did you mean `strategy`?"]),
        (changed(strategy="sudden"), ['unknown word ("sudden")', "one of: canary, immediate, phased"]),
        (changed(pipeline_version=None), ["pipeline_version: required key is missing"]),
        (changed(strategy=None), ["strategy: required key is missing"]),
        (changed(rollback_posture=None), ["rollback_posture: required key is missing"]),
        (changed(rollback_posture={"mode": "manual"}), ["rollback_posture.trigger: required key is missing"]),
        (
            changed(rollback_posture={"mode": "hope", "trigger": " "}),
            [
                'mode: unknown word ("hope")',
                "trigger: is not allowed",
                "one of: automatic, manual",
                "at least one word",
            ],
        ),
        (
            changed(rollback_posture={"mode": "manual", "trigger": "x", "after": 3}),
            ["rollback_posture.after: unknown key"],
        ),
        (changed(pipeline_version=7), ['must be text (is "7", a number)']),
    ],
)
def test_an_invalid_rollout_is_refused_with_field_value_and_remedy(
    desk: Path, capsys: pytest.CaptureFixture[str], text: str, told: list[str]
) -> None:
    (desk / "desk.rollout.json").write_text(text, "utf-8")
    assert publish() == 1
    said = capsys.readouterr().err
    assert said.startswith("error: rollout configuration: desk.rollout.json")
    assert all(words in said for words in told), said
    assert "\nhint: " in said
    assert not MANIFEST.exists()
    if text.startswith("{"):
        assert not jsonschema.Draft202012Validator(schema.schema_of("rollout")).is_valid(json.loads(text))


@pytest.mark.parametrize("strategy", ["immediate", "phased", "canary"])
@pytest.mark.parametrize("mode", ["automatic", "manual"])
def test_each_strategy_and_posture_is_one_for_types_and_schema(strategy: str, mode: str) -> None:
    text = changed(strategy=strategy, rollback_posture={"mode": mode, "trigger": "x"})
    assert (parse_rollout(text, "r").strategy, parse_rollout(text, "r").rollback_posture.mode) == (
        strategy,
        mode,
    )
    jsonschema.Draft202012Validator(schema.schema_of("rollout")).validate(json.loads(text))


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        (
            "desk.rollout.json",
            changed(pipeline_version="desk@v6"),
            '"desk@v6" is not what desk.yaml holds ("desk@v7")',
        ),
        ("desk.yaml", SPEC_TEXT + "surprise: 1\n", "pipeline: desk.yaml:6: surprise: unknown key"),
        (
            "slow.profile.yaml",
            "name: slow\nbudget: 1\n",
            "pipeline: slow.profile.yaml:2: budget: unknown key",
        ),
        ("desk.yaml", SPEC_TEXT.replace("slow", "fast"), 'unknown execution profile ("fast")'),
    ],
)
def test_a_pipeline_that_cannot_be_released_as_asked_is_refused(
    desk: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, told: str
) -> None:
    (desk / file).write_text(text, "utf-8")
    assert publish() == 1
    assert told in capsys.readouterr().err
    assert not MANIFEST.exists()


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("desk.rollout.json", b"strategy: [", "rollout configuration: desk.rollout.json:1: not valid YAML"),
        ("desk.rollout.json", b"", "the file is empty"),
        ("desk.rollout.json", b"- immediate", "must be a mapping"),
        ("desk.rollout.json", b"\xff", "desk.rollout.json:1: not UTF-8"),
        ("desk.rollout.json", b"a: &a [*a]", "aliases make the file endless"),
        ("desk.rollout.json", b"#" * 300_000, "too large"),
        ("desk.yaml", b"name: [", "pipeline: desk.yaml:1: not valid YAML"),
        ("desk.yaml", b"", "pipeline: desk.yaml: the file is empty"),
        ("slow.profile.yaml", b"name: [", "pipeline: slow.profile.yaml:1: not valid YAML"),
        ("slow.profile.yaml", b"\xff", "pipeline: slow.profile.yaml:1: not UTF-8"),
    ],
)
def test_what_is_no_document_is_bad_input_and_no_judgement(
    desk: Path, capsys: pytest.CaptureFixture[str], file: str, content: bytes, told: str
) -> None:
    (desk / file).write_bytes(content)
    assert publish() == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert told in said
    assert "\nhint: " in said
    assert not MANIFEST.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "spec-ref"),
        (["desk.yaml"], "rollout-cfg"),
        (["nowhere.yaml", "desk.rollout.json"], "nowhere.yaml: no such pipeline file"),
        (["desk.yaml", "nowhere.yaml"], "nowhere.yaml: no such rollout file"),
        (["desk.yaml", "artifacts"], "artifacts: is a directory"),
        (["desk.yaml", "desk.rollout.json", "desk.yaml"], "would overwrite the spec input"),
        (["desk.yaml", "desk.rollout.json", str(FILES[SLO])], "would overwrite the slo input"),
        (["desk.yaml", "desk.rollout.json", "desk.yaml/m.json"], "cannot be written"),
    ],
)
@pytest.mark.usefixtures("desk")
def test_what_cannot_be_read_or_written_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    before = {path: hash_of(path) for path in (*FILES.values(), Path("desk.yaml"))}
    assert run(["publish-release", *arguments]) == 2
    said = capsys.readouterr().err
    assert told in said.lower()
    assert "\nhint: " in said
    assert {path: hash_of(path) for path in before} == before
    assert not MANIFEST.exists()


@pytest.mark.usefixtures("desk")
def test_every_path_can_be_named_and_machines_get_the_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    reports = []
    for number, path in enumerate(FILES.values()):
        reports.append(f"{number}.json")
        path.rename(reports[-1])
    assert publish("deep/manifest.json", *reports, "--json") == 0
    assert json.loads(capsys.readouterr().out) == manifest_of(Path("deep/manifest.json"))
    assert publish("deep/manifest.json", *reports[::-1], "--json") == 1
    refused = json.loads(capsys.readouterr().out)
    assert [check["reason"] for check in refused["readiness"]["checks"]] == ["invalid", "passed", "invalid"]
