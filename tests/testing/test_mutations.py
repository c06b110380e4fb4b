"""Test that the cases of SQL cells find mistakes in the cells of notebooks 3 and 4."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from daybook.testing.case import Case, list_case_files, read_cases
from daybook.testing.runner import CaseResult, CaseRunner, read_parameters
from tests.testing.mutants import derive_mutants, format_query

pytestmark = pytest.mark.slow

NOTEBOOKS = ("3_transform", "4_aggregate")
FOLDER = Path(__file__).parent


class Mutation(NamedTuple):
    """A named mistake in a cell: a piece of its text, which it has once, and what replaces it."""

    notebook: str
    cell: str
    name: str
    find: str
    replace: str


def read_mutations() -> list[Mutation]:
    """Return the named mistakes."""
    content = yaml.safe_load((FOLDER / "mutations.yaml").read_text(encoding="utf-8"))
    return [
        Mutation(notebook, cell, **values)
        for notebook, cells in content.items()
        for cell, mutations in cells.items()
        for values in mutations
    ]


def read_equivalents() -> dict[str, set[str]]:
    """Return the changes of each cell that no case can find."""
    found: dict[str, set[str]] = defaultdict(set)
    for each in yaml.safe_load((FOLDER / "equivalent_mutants.yaml").read_text(encoding="utf-8")):
        for cell, changes in each["changes"].items():
            found[cell] |= set(changes)
    return found


class MutationRun:
    """Runs the cases of a notebook with one cell changed."""

    def __init__(self) -> None:
        self.runner = CaseRunner()
        self.cases: dict[tuple[str, str], list[Case]] = defaultdict(list)
        """The cases that run a cell, by notebook and cell. Those that found the last mistakes are first."""
        for case in (each for path in list_case_files() for each in read_cases(path)):
            cells, values = self.runner.cells(case.notebook), read_parameters(case)[2]
            for name in cells.needed_for(case.table, values, case.given)[0]:
                self.cases[case.notebook, name].append(case)

    def failures(self, notebook: str, cell: str, sql: str) -> Iterator[CaseResult]:
        """Yield the failing cases of a notebook while a cell of it has other SQL."""
        queries, cases = self.runner.cells(notebook).queries, self.cases[notebook, cell]
        original, queries[cell] = queries[cell], sql
        try:
            for case in tuple(cases):
                result = self.runner.run(case)
                if result.differences:
                    cases.remove(case)
                    cases.insert(0, case)
                if not result.passed:
                    yield result
        finally:
            queries[cell] = original


@pytest.fixture(scope="module")
def run() -> MutationRun:
    """Return a runner that all tests of this file share."""
    return MutationRun()


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_table_has_cases(run: MutationRun, notebook: str) -> None:
    tested = {case.table for cases in run.cases.values() for case in cases if case.notebook == notebook}
    assert {name for name in run.runner.cells(notebook).names if "." in name} <= tested


@pytest.mark.smoke
@pytest.mark.parametrize("mutation", read_mutations(), ids=lambda each: f"{each.cell}: {each.name}")
def test_case_finds_named_mistake(run: MutationRun, mutation: Mutation) -> None:
    sql = run.runner.cells(mutation.notebook).queries[mutation.cell]
    assert sql.count(mutation.find) == 1, f"{mutation.cell} has {mutation.find!r} {sql.count(mutation.find)} times, not once"
    mistaken = sql.replace(mutation.find, mutation.replace)
    # An error of the SQL is no proof: DuckDB finds it without a case.
    assert any(each.differences for each in run.failures(mutation.notebook, mutation.cell, mistaken))


def test_formatting_of_mutants_changes_nothing() -> None:
    runner = CaseRunner()
    for notebook in NOTEBOOKS:
        queries = runner.cells(notebook).queries
        queries.update({name: format_query(sql) for name, sql in queries.items()})
    assert all(runner.run(case).passed for path in list_case_files() for case in read_cases(path))


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_cases_find_all_derived_mutants(run: MutationRun, notebook: str) -> None:
    expected, queries = read_equivalents(), run.runner.cells(notebook).queries
    outcomes: Counter[str] = Counter()
    for cell, sql in list(queries.items()):
        unfound = set()
        for mutant in derive_mutants(sql):
            failure = next(run.failures(notebook, cell, mutant.sql), None)
            outcomes["not found" if failure is None else "found" if failure.differences else "errors"] += 1
            if failure is None:
                unfound.add(mutant.change)
        assert unfound == expected[cell], f"{cell}: add a case that finds the change, or its reason to equivalent_mutants.yaml"
