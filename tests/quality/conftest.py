"""One engine for all tests of a module: tables are laid into it under names of their own, and checked there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from daybook.contracts import Table, load_tables
from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.quality import WHOLE_ROW_CONDITION, Rule, RuleResult, check_rules, landing_rules, table_rules
from daybook.sources.config import Source
from daybook.sources.mapping import quote, typed_select
from tests.quality.sound import DAY, Row, Tables
from tests.quality.spoiling import TRUNCATED_MARK

ADDRESS = ["_source_file", "_row_number"]


class Found(NamedTuple):
    """What a check of a table found: a result a rule, the rules that stopped each struck row (landing only), by address."""

    results: list[RuleResult]
    put_aside: dict[tuple[Any, ...], set[str]]


class Bench:
    """Lays small tables and checks them as the stages do."""

    def __init__(self, engine: DuckDBEngine) -> None:
        self.engine = engine
        self._laid: dict[str, tuple[str, list[Row]]] = {}

    def lay_landing(self, source: Source, tables: Tables) -> None:
        """Tables of texts, typed as validation has them."""
        for name, rows in tables.items():
            if self._is_new(name, source.name, rows):
                self.lay_entity(source, name, landed(source, name, rows))

    def _is_new(self, name: str, of: str, rows: list[Row]) -> bool:
        """Whether other rows, or rows of another source, lie under a name."""
        new = self._laid.get(name) != (of, rows)
        self._laid[name] = (of, rows)
        return new

    def lay_entity(self, source: Source, name: str, rows: pa.Table) -> None:
        """An entity's landed rows as ``typed.<entity>``, and the whole ones, each once, as ``<entity>``."""
        self.engine.register("landed", rows)
        columns = ", ".join(quote(column) for column in [*source.entities[name].columns, "_problem", "_raw"])
        keep = not source.drops_duplicates(name)
        copy = "1" if keep else f"row_number() OVER (PARTITION BY {columns} ORDER BY _source_file, _row_number)"
        relation = f"(SELECT *, {copy} AS _copy, '' AS _waived FROM landed) AS landed"
        self.engine.create_table(f"typed.{name}", typed_select(source, name, relation))
        self.engine.define(name, f"SELECT * FROM typed.{name} WHERE {WHOLE_ROW_CONDITION}")

    def check_landing(self, source: Source, name: str, day: Any = DAY, rules: Any = None) -> Found:
        """Hold an entity that was laid against its contract's rules, or ``rules``."""
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

    def lay(self, layer: str, tables: Tables) -> None:
        """Typed rows as ``new.<table>`` (silver) or ``candidate.<table>`` (gold)."""
        for name, rows in tables.items():
            contract = load_tables(layer)[f"{layer}.{name}"]
            if self._is_new(laid(contract), layer, rows):
                self.engine.register(laid(contract), typed_rows(contract, rows))

    def check(self, contract: Table, rules: Any = None) -> Found:
        """Hold a table of silver or gold that was laid against its contract's rules, or ``rules``."""
        rules = refined_rules(contract) if rules is None else rules
        results, _, _ = check_rules(
            self.engine,
            laid(contract),
            rules,
            contract.full_name,
            key=contract.key,
            pseudonyms=tuple(contract.pseudonyms),
            run_date=DAY,
        )
        return Found(results, {})


def typed_rows(contract: Table, rows: list[Row]) -> pa.Table:
    """Rows in the types of a contract."""
    return pa.table({item.name: pa.array([row[item.name] for row in rows], item.arrow_type) for item in contract.properties})


def refined_rules(contract: Table) -> list[Rule]:
    """The compiled rules of a silver or gold table whose references are looked up in what was laid."""
    return table_rules(contract, lambda name: laid(load_tables(contract.layer)[name]))


def laid(contract: Table) -> str:
    """The name under which a table of silver or gold is laid."""
    return f"{'new' if contract.layer == 'silver' else 'candidate'}.{contract.name}"


def landed(source: Source, name: str, rows: list[Row]) -> pa.Table:
    """Rows of texts as reading a file ``<entity>.csv`` gives them."""
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
    """A bench with an empty lake, in the demo shop's time zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("bench"))
        yield Bench(DuckDBEngine(Lake(str(tmp_path_factory.mktemp("lake"))), "Europe/Berlin"))
