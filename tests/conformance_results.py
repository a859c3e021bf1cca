"""A pytest plugin: tests that carry conformance ids are marked, and what came of them is written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rspp.tooling.conformance_ids import ids_in_name

PROPERTY = "conformance"
OPTION = "conformance_results"


class Results:
    """Keeps the worst outcome of each test that carries ids; parameters of one test count together."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outcomes: dict[str, tuple[list[str], str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        ids = [str(value) for name, value in report.user_properties if name == PROPERTY]
        if not ids or (report.when != "call" and report.passed):
            return
        test = report.nodeid.partition("[")[0]
        earlier = self._outcomes.get(test, (ids, "passed"))[1]
        self._outcomes[test] = (ids, report.outcome if earlier == "passed" else earlier)

    def pytest_sessionfinish(self) -> None:
        tests = [
            {"test": test, "ids": ids, "outcome": outcome}
            for test, (ids, outcome) in sorted(self._outcomes.items())
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps({"tests": tests}, indent=1) + "\n", "utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--conformance",
        dest=OPTION,
        metavar="FILE",
        help="write what came of the tests that carry conformance ids",
    )


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption(OPTION)
    # The workers of xdist report to the first process, which alone writes.
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Results(Path(path)), "conformance-results")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marked = [str(name) for marker in item.iter_markers("conformance") for name in marker.args]
        named = ids_in_name(getattr(item, "originalname", None) or item.name)
        ids = list(dict.fromkeys([*named, *marked]))
        if ids and not marked:
            item.add_marker(pytest.mark.conformance(*ids))
        item.user_properties.extend((PROPERTY, name) for name in ids)
