"""Apply the rules of a landing contract to the rows of a case, as notebook 2 does."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from daybook.engines import DuckDBEngine
from daybook.errors import CaseError
from daybook.lake.tables import Lake
from daybook.notebook.conversions import ADDRESS_COLUMNS
from daybook.notebook.validate import register_rejected
from daybook.quality.checks import check_rules
from daybook.quality.rules import WHOLE_ROW_CONDITION, landing_rules
from daybook.settings import Settings
from daybook.sources import load_source
from daybook.sources.mapping import quote, typed_select
from daybook.testing.case import Case, suggest_names
from daybook.testing.values import build_table

_LANDED, _REJECTED = "landed", "rejected"


class LandingEngine:
    """Computes ``rejected.<entity>`` from rows as they land: texts under the names of the contract.

    A rejected row has all of its texts and ``_reasons``, the rules that it breaks.
    """

    def __init__(self, settings: Settings) -> None:
        self.source = load_source(settings.source)
        self.zone = ZoneInfo(settings.timezone)
        self._engine = DuckDBEngine(Lake("memory:///cases"), settings.timezone, threads=1)
        self._typed: dict[str, pa.Table] = {}
        """The rows that are typed, by entity."""

    def read_given(self, case: Case, run_date: date, values: Mapping[str, Any]) -> dict[str, pa.Table]:
        """Return the given rows of a case, numbered.

        Raises
        ------
        CaseError
            The case names an entity or a column that does not exist.
        """
        tables = [f"{_REJECTED}.{name}" for name in self.source.entities]
        if case.table not in tables:
            raise CaseError(f"{case.notebook} gives no table {case.table}; {suggest_names(case.table, tables)}")
        inputs = {f"{_LANDED}.{name}": name for name in self.source.entities}
        for name in case.given:
            if name not in inputs:
                raise CaseError(f"given: there is no input {name!r}; {suggest_names(name, inputs)}")
        return {name: self._build_landed(name, inputs[name], case) for name in inputs}

    def _build_landed(self, name: str, entity: str, case: Case) -> pa.Table:
        schema = pa.schema([pa.field(each, pa.string()) for each in self.source.entities[entity].columns])
        rows = build_table(name, case.given.get(name, []), schema, self.zone)
        file, number = ADDRESS_COLUMNS
        rows = rows.append_column(file, pa.array([entity] * len(rows), pa.string()))
        return rows.append_column(number, pa.array(range(1, len(rows) + 1), pa.int64()))

    def compute(self, table: str, given: Mapping[str, pa.Table], values: Mapping[str, Any]) -> pa.Table:
        """Return the rejected rows of an entity with their reasons."""
        entity = table.partition(".")[2]
        # Rules may read every entity.
        for name in self.source.entities:
            self._type_rows(name, given[f"{_LANDED}.{name}"])
        rules = landing_rules(self.source, entity)
        _, rows, of_rows = check_rules(
            self._engine,
            f"typed.{entity}",
            rules,
            entity,
            key=list(ADDRESS_COLUMNS),
            counted="_copy = 1",
            run_date=values["run_date"],
            objects=entity,
        )
        register_rejected(self._engine, entity, rows, of_rows)
        address = ", ".join(ADDRESS_COLUMNS)
        return self._engine.arrow(
            f"SELECT * EXCLUDE ({address}) FROM {_LANDED}.{entity} JOIN {table} USING ({address}) ORDER BY _row_number"
        )

    def _type_rows(self, entity: str, rows: pa.Table) -> None:
        if entity in self._typed and rows.equals(self._typed[entity]):
            return
        self._typed[entity] = rows
        self._engine.register(f"{_LANDED}.{entity}", rows)
        columns = ", ".join(map(quote, self.source.entities[entity].columns))
        copy = "1"
        if self.source.drops_duplicates(entity):
            copy = f"row_number() OVER (PARTITION BY {columns} ORDER BY _row_number)"
        landed = (
            f"(SELECT *, {copy} AS _copy, CAST(NULL AS VARCHAR) AS _problem, CAST(NULL AS VARCHAR) AS _waived "
            f"FROM {_LANDED}.{entity}) AS landed"
        )
        self._engine.create_table(f"typed.{entity}", typed_select(self.source, entity, landed, self.zone.key))
        self._engine.define(entity, f"SELECT * FROM typed.{entity} WHERE {WHOLE_ROW_CONDITION}")
