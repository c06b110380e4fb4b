"""Provide an engine with tables that are checked like those of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from daybook.contracts import Table, load_tables
from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.quality.checks import RuleResult, check_rules
from daybook.quality.rules import WHOLE_ROW_CONDITION, Rule, landing_rules, table_rules
from daybook.sources.config import Source
from daybook.sources.mapping import quote, typed_select
from tests.quality.fault_cases import TRUNCATED_MARK
from tests.quality.valid_tables import DAY, Row, Tables

ADDRESS = ["_source_file", "_row_number"]


class Found(NamedTuple):
    """Results of a check, one per rule, and the rules that each quarantined row breaks (landing only), by address."""

    results: list[RuleResult]
    quarantined: dict[tuple[Any, ...], set[str]]


class Bench:
    """Load small tables and check them like the stages do."""

    def __init__(self, engine: DuckDBEngine) -> None:
        self.engine = engine
        self._loaded: dict[str, tuple[str, list[Row]]] = {}

    def load_landing(self, source: Source, tables: Tables) -> None:
        """Load tables of texts, typed as in validation."""
        for name, rows in tables.items():
            if self._is_new(name, source.name, rows):
                self.load_entity(source, name, landed(source, name, rows))

    def _is_new(self, name: str, of: str, rows: list[Row]) -> bool:
        """Return whether other rows, or rows of another source, are loaded under a name."""
        new = self._loaded.get(name) != (of, rows)
        self._loaded[name] = (of, rows)
        return new

    def load_entity(self, source: Source, name: str, rows: pa.Table) -> None:
        """Load an entity as ``typed.<entity>`` and its complete rows without duplicates as ``<entity>``."""
        self.engine.register("landed", rows)
        columns = ", ".join(quote(column) for column in [*source.entities[name].columns, "_problem", "_raw"])
        keep = not source.drops_duplicates(name)
        copy = "1" if keep else f"row_number() OVER (PARTITION BY {columns} ORDER BY _source_file, _row_number)"
        relation = f"(SELECT *, {copy} AS _copy, '' AS _waived FROM landed) AS landed"
        self.engine.create_table(f"typed.{name}", typed_select(source, name, relation))
        self.engine.define(name, f"SELECT * FROM typed.{name} WHERE {WHOLE_ROW_CONDITION}")

    def check_landing(self, source: Source, name: str, day: Any = DAY, rules: Any = None) -> Found:
        """Check a loaded entity against its contract's rules or ``rules``."""
        rules = landing_rules(source, name) if rules is None else rules
        results, rows, of_rows = check_rules(
            self.engine, f"typed.{name}", rules, name, key=ADDRESS, counted="_copy = 1", run_date=day, objects=name
        )
        aside: dict[tuple[Any, ...], set[str]] = {}
        for row in rows.to_pylist():
            reasons = {
                rule.name
                for number, rule in enumerate(of_rows)
                if row[f"rule_{number}"] and rule.is_per_row and rule.severity == "error"
            }
            if reasons:
                aside[row["_source_file"], row["_row_number"]] = reasons
        return Found(results, aside)

    def load(self, layer: str, tables: Tables) -> None:
        """Load typed rows as ``new.<table>`` (silver) or ``candidate.<table>`` (gold)."""
        for name, rows in tables.items():
            contract = load_tables(layer)[f"{layer}.{name}"]
            if self._is_new(relation_of(contract), layer, rows):
                self.engine.register(relation_of(contract), typed_rows(contract, rows))

    def check(self, contract: Table, rules: Any = None) -> Found:
        """Check a loaded silver or gold table against its contract's rules or ``rules``."""
        rules = refined_rules(contract) if rules is None else rules
        results, _, _ = check_rules(
            self.engine,
            relation_of(contract),
            rules,
            contract.full_name,
            key=contract.key,
            pseudonyms=tuple(contract.pseudonyms),
            run_date=DAY,
        )
        return Found(results, {})


def typed_rows(contract: Table, rows: list[Row]) -> pa.Table:
    """Return rows in the types of a contract."""
    return pa.table({item.name: pa.array([row[item.name] for row in rows], item.arrow_type) for item in contract.properties})


def refined_rules(contract: Table) -> list[Rule]:
    """Return the rules of a silver or gold table, with foreign keys to loaded tables."""
    return table_rules(contract, lambda name: relation_of(load_tables(contract.layer)[name]))


def relation_of(contract: Table) -> str:
    """Return the relation of a loaded silver or gold table."""
    return f"{'new' if contract.layer == 'silver' else 'candidate'}.{contract.name}"


def landed(source: Source, name: str, rows: list[Row]) -> pa.Table:
    """Return rows of text like those read from ``<entity>.csv``."""
    columns = source.entities[name].columns
    table = {column: pa.array([row[column] for row in rows], pa.string()) for column in columns}
    cut = [row.get(TRUNCATED_MARK) for row in rows]
    return pa.table(
        {
            **table,
            "_source_file": pa.array([f"{name}.csv"] * len(rows), pa.string()),
            "_row_number": pa.array(range(1, len(rows) + 1), pa.int64()),
            "_problem": pa.array(
                [row.get("_problem", row.get(TRUNCATED_MARK) and "1 field too few") for row in rows], pa.string()
            ),
            "_raw": pa.array(cut, pa.string()),
        }
    )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Return a bench with an empty lake in the demo shop's time zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("bench"))
        yield Bench(DuckDBEngine(Lake(str(tmp_path_factory.mktemp("lake"))), "Europe/Berlin"))
