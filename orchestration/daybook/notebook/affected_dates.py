"""Find the business dates whose gold a merge of silver makes stale, by the ``affects`` of the contracts."""

from __future__ import annotations

from datetime import date

from daybook.contracts import Table, load_tables
from daybook.contracts.canonical import (
    affected_dates,
    business_date_column,
    business_date_table,
    column_name,
    has_own_dates,
    reference_to,
    silver_table,
)
from daybook.contracts.model import LANDED_ON, VERSION_AT, Affects
from daybook.errors import ContractError
from daybook.lake.merge import RowChanges
from daybook.notebook.context import Stage
from daybook.notebook.stale_dates import list_stale_dates, mark_stale_dates
from daybook.settings import Settings


class StaleDateTracker:
    """Note the business dates whose gold the merges of a stage change, before each commit and once more after all.

    Concurrent runs leave no gap. A merge of the table with the business date knows the very rows that it replaces. A change of
    another table is noted for the date that the row it refers to has once it is merged. A run that moves this row afterwards
    notes both of its dates and computes them later.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.noted: set[date] = set()
        self._dated = business_date_table()
        self._date = business_date_column()
        (self._key,) = self._dated.key
        self._affects = {table.name: affected_dates(table) for table in load_tables("silver").values()}
        self._own_dates = [
            (table, each)
            for table in load_tables("silver").values()
            if table is not self._dated
            for each in self._affects[table.name]
            if has_own_dates(table, each) and _is_active(stage.settings, table, each)
        ]
        """Tables besides the dated one whose rows have dates of their own."""
        self._changed: dict[str, None] = {}
        """Names of the tables of whose rows the ids are kept: the dated table, and tables referred to through others."""

    def note(self, contract: Table, changes: RowChanges) -> None:
        """Note what these changes of a table make stale, before they are committed."""
        affects = self._affects[contract.name]
        if not affects:
            return
        differing = self._differing_rows_sql(contract, changes)
        dates: set[date] = set()
        for each in affects:
            if not _is_active(self.stage.settings, contract, each):
                continue
            if not has_own_dates(contract, each):
                about = contract.name if each.through else self._dated.name
                dates |= self._find_dates(about, self._keep_ids(about, each.dates_of, differing), each.through)
                continue
            dates |= self._read_dates(f"SELECT {_date_sql(contract, each)} FROM {differing} AS differing{_where_sql(each)}")
            if each.first_of:
                dates |= self._find_moved_first_dates(each.first_of, differing)
            if contract is self._dated and self._own_dates:
                # Rows that another run merges at the same time are found by the second look, in `mark_remaining`.
                dates |= self._find_dates(contract.name, self._keep_ids(contract.name, self._key, differing))
        mark_stale_dates(self.stage.lake, dates - self.noted, under=self.stage.run_date)
        self.noted |= dates

    def mark_remaining(self) -> list[date]:
        """Note all dates once more after the merges, with the dates that rows have now; return all dates that wait."""
        waiting = list_stale_dates(self.stage)
        for about in self._changed:
            through = next((each.through for each in self._affects[about] if each.through), "")
            self.noted |= self._find_dates(about, f"SELECT id FROM changed.ids_{about}", through)
        mark_stale_dates(self.stage.lake, self.noted, under=self.stage.run_date)
        return sorted(self.noted | waiting)

    def _differing_rows_sql(self, contract: Table, changes: RowChanges) -> str:
        """Return a subquery for changed rows before and after, without those in which no relevant column differs."""
        engine = self.stage.engine
        names = ", ".join(self._relevant_columns(contract))
        engine.create_view("changed.before", f"SELECT {names} FROM ({changes.before_sql}) AS before")
        engine.create_view("changed.after", f"SELECT {names} FROM ({changes.after_sql}) AS after")
        if not changes.counts["updated"] and not changes.counts["deleted"]:
            return "(SELECT * FROM changed.after)"
        return (
            "((SELECT * FROM changed.before EXCEPT SELECT * FROM changed.after) UNION ALL "
            "(SELECT * FROM changed.after EXCEPT SELECT * FROM changed.before))"
        )

    def _relevant_columns(self, contract: Table) -> list[str]:
        """Return the columns of which a change makes dates stale: not those of the version, nor dates that are not in use."""
        affects = self._affects[contract.name]
        if all(each.columns for each in affects):
            wanted = [name for each in affects for name in (each.dates_of, *each.columns)]
            return list(dict.fromkeys(column_name(contract, name) for name in wanted))
        unused = {
            column_name(contract, each.dates_of)
            for each in affects
            if has_own_dates(contract, each) and not _is_active(self.stage.settings, contract, each)
        }
        return [name for name in contract.columns if name not in {VERSION_AT, LANDED_ON, *contract.derived, *unused}]

    def _keep_ids(self, about: str, column: str, differing: str) -> str:
        """Return a query for the rows of ``about`` that changes refer to, empty if there are none.

        They are kept beside those of other tables, for the look after all merges.
        """
        engine, kept = self.stage.engine, f"changed.ids_{about}"
        if not engine.create_table("changed.found", f"SELECT DISTINCT {column} AS id FROM {differing} AS differing"):
            return ""
        before = f"SELECT id FROM {kept} UNION " if about in self._changed else ""
        engine.create_table("changed.together", f"{before}SELECT id FROM changed.found")
        engine.create_table(kept, "SELECT id FROM changed.together")
        self._changed[about] = None
        return "SELECT id FROM changed.found"

    def _find_dates(self, about: str, ids: str, through: str = "") -> set[date]:
        """Return the dates that silver now has for rows of ``about`` whose ids a query gives.

        These are the dates of the rows with the business date, found by their key or through another table, and the dates that
        rows of other tables have of their own.
        """
        if not ids:
            return set()
        # The dated rows first: a run that adds such a row after this look computes its date later.
        tables = [self._dated, *([silver_table(through)] if through else []), *(table for table, _ in self._own_dates)]
        for name in dict.fromkeys(each.full_name for each in tables):
            self.stage.engine.refresh(name)
        keys = ids
        if through:
            middle = silver_table(through)
            found_by = reference_to(middle, silver_table(about))
            keys = f"SELECT {reference_to(middle, self._dated)} FROM {middle.full_name} WHERE {found_by} IN ({ids})"
        asked = [
            f"SELECT {self._date} AS day FROM {self._dated.full_name} WHERE {self._is_among(self._key, keys, not through)}"
        ]
        for table, each in self._own_dates:
            direct = through == table.name
            column = reference_to(table, silver_table(about) if direct else self._dated)
            if not column:
                continue
            found = self._is_among(column, ids if direct else keys, not through)
            condition = f"({each.where}) AND {found}" if each.where else found
            asked.append(f"SELECT {_date_sql(table, each)} AS day FROM {table.full_name} WHERE {condition}")
        return self._read_dates(f"SELECT DISTINCT day FROM ({' UNION ALL '.join(asked)}) AS found")

    def _is_among(self, column: str, ids: str, with_range: bool) -> str:
        """Return a condition that a column is among the ids of a query; with their range, so that few files are read."""
        condition = f"{column} IN ({ids})"
        if not with_range:
            return condition
        return f"{condition} AND {self.stage.engine.range_predicate(column, f'SELECT id AS {column} FROM ({ids}) AS asked')}"

    def _find_moved_first_dates(self, column: str, differing: str) -> set[date]:
        """Return the first dates before and after the changes, where the first date of a value of ``column`` changes."""
        self.stage.engine.refresh(self._dated.full_name)
        return self._read_dates(
            f"""
            WITH either AS (
                SELECT {column} AS item, {self._date} AS was,
                    CASE WHEN {self._key} NOT IN (SELECT {self._key} FROM changed.before) THEN {self._date} END AS becomes
                FROM {self._dated.full_name}
                UNION ALL SELECT {column}, NULL, {self._date} FROM changed.after
            ),
            firsts AS (
                SELECT min(was) AS was, min(becomes) AS becomes FROM either
                WHERE item IN (SELECT DISTINCT {column} FROM {differing} AS differing) GROUP BY item
            ),
            moved AS (SELECT DISTINCT was, becomes FROM firsts WHERE was IS DISTINCT FROM becomes)
            SELECT was FROM moved UNION SELECT becomes FROM moved
            """
        )

    def _read_dates(self, sql: str) -> set[date]:
        """Return the dates in the only column of a query's rows."""
        return {row[0] for row in self.stage.engine.rows(sql) if row[0] is not None}


def _is_active(settings: Settings, table: Table, affects: Affects) -> bool:
    """Return whether the deployment's settings are those that ``only_if`` names."""
    for name, value in affects.only_if.items():
        if name not in type(settings).model_fields:
            raise ContractError(
                f"{table.file}: the custom property affects has only_if with {name!r}, which is no key of params."
            )
        if str(getattr(settings, name)) != value:
            return False
    return True


def _date_sql(table: Table, affects: Affects) -> str:
    """Return SQL for the shop's local day of a row; null where the source does not give it."""
    column = column_name(table, affects.dates_of)
    return column if table.type_of(column) == "DATE" else f"CAST({column} AS DATE)"


def _where_sql(affects: Affects) -> str:
    return f" WHERE {affects.where}" if affects.where else ""
