"""pytest collects each case as a test."""

from __future__ import annotations

import pytest

from daybook.settings import project_root
from tests.testing.small_shop import CASES

pytest_plugins = ["pytester"]


@pytest.fixture
def run(pytester: pytest.Pytester) -> pytest.RunResult:
    """Return the result of pytest in a folder with the project's ``conftest.py`` and two cases."""
    conftest = project_root() / "tests" / "sql" / "conftest.py"
    pytester.makeconftest(conftest.read_text(encoding="utf-8"))
    (pytester.path / "cases.yaml").write_text(CASES, encoding="utf-8")
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-v")


def test_each_case_is_a_test(run: pytest.RunResult) -> None:
    run.assert_outcomes(passed=1, failed=1)
    run.stdout.fnmatch_lines(["cases.yaml::a day without orders PASSED*", "cases.yaml::a wrong figure FAILED*"])


def test_failure_shows_the_differences(run: pytest.RunResult) -> None:
    run.stdout.fnmatch_lines(["gold.daily_sales by 4_aggregate", "order_date=2025-11-30  orders  7         1"])
    run.stdout.no_fnmatch_line("*Traceback*")


def test_invalid_file_is_one_sentence(pytester: pytest.Pytester) -> None:
    conftest = project_root() / "tests" / "sql" / "conftest.py"
    pytester.makeconftest(conftest.read_text(encoding="utf-8"))
    (pytester.path / "cases.yaml").write_text("cases: []", encoding="utf-8")
    found = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    found.assert_outcomes(errors=1)
    found.stdout.fnmatch_lines(["*key 'cases' is no list of cases*"])
    found.stdout.no_fnmatch_line("*case.py:*")
