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
from daybook.lake.merge import CHANGED_BY, RowChanges
from daybook.notebook.context import Stage
from daybook.notebook.stale_dates import ANY_RUN_DATE, mark_stale_pairs, read_stale_notes
from daybook.settings import Settings

DatePair = tuple[date, date]
"""A run date, and a business date whose gold its merge has made stale."""


class StaleDateTracker:
    """Note the business dates whose gold the merges of a stage change, before each commit and once more after all.

    Each is noted under the run dates whose rows have changed it.

    Concurrent runs leave no gap. A merge of the table with the business date knows the very rows that it replaces. A change of
    another table is noted for the date that the row it refers to has once it is merged. A run that moves this row afterwards
    notes both of its dates and computes them later.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.noted: set[DatePair] = set()
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
        differing = self._keep_differing_rows(contract, changes)
        pairs: set[DatePair] = set()
        for each in affects:
            if not _is_active(self.stage.settings, contract, each):
                continue
            if not has_own_dates(contract, each):
                about = contract.name if each.through else self._dated.name
                pairs |= self._find_dates(about, self._keep_ids(about, each.dates_of, differing), each.through)
                continue
            pairs |= self._read_dates(f"SELECT {CHANGED_BY}, {_date_sql(contract, each)} FROM {differing}{_where_sql(each)}")
            if each.first_of:
                pairs |= self._find_moved_first_dates(each.first_of, differing, changes)
            if contract is self._dated and self._own_dates:
                # Rows that another run merges at the same time are found by the second look, in `mark_remaining`.
                pairs |= self._find_dates(contract.name, self._keep_ids(contract.name, self._key, differing))
        mark_stale_pairs(self.stage.lake, pairs - self.noted)
        self.noted |= pairs

    def mark_remaining(self) -> set[DatePair]:
        """Note all dates once more after the merges, with the dates that rows have now; return all dates that wait.

        Dates that wait for the next run of any date are under the first date of the stage.
        """
        first = self.stage.dates[0]
        waiting = {
            (first if note.run_date == ANY_RUN_DATE else note.run_date, note.stale_date)
            for note in read_stale_notes(self.stage)
        }
        for about in self._changed:
            through = next((each.through for each in self._affects[about] if each.through), "")
            self.noted |= self._find_dates(about, f"SELECT id, {CHANGED_BY} FROM changed.ids_{about}", through)
        mark_stale_pairs(self.stage.lake, self.noted)
        return self.noted | waiting

    def _keep_differing_rows(self, contract: Table, changes: RowChanges) -> str:
        """Keep the changed rows before and after, without those in which no relevant column differs; return their relation."""
        # Only a view can read the tables of the merge.
        self.stage.engine.create_view("changed.found_rows", changes.differing_sql(self._relevant_columns(contract)))
        self.stage.engine.create_table("changed.differing", "SELECT * FROM changed.found_rows")
        return "changed.differing"

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
        if not engine.create_table("changed.found", f"SELECT DISTINCT {column} AS id, {CHANGED_BY} FROM {differing}"):
            return ""
        before = f"SELECT id, {CHANGED_BY} FROM {kept} UNION " if about in self._changed else ""
        engine.create_table("changed.together", f"{before}SELECT id, {CHANGED_BY} FROM changed.found")
        engine.create_table(kept, f"SELECT id, {CHANGED_BY} FROM changed.together")
        self._changed[about] = None
        return f"SELECT id, {CHANGED_BY} FROM changed.found"

    def _find_dates(self, about: str, ids: str, through: str = "") -> set[DatePair]:
        """Return the dates that silver now has for rows of ``about`` whose ids a query gives, with the run dates of the ids.

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
            keys = (
                f"SELECT DISTINCT m.{reference_to(middle, self._dated)} AS id, asked.{CHANGED_BY} "
                f"FROM {middle.full_name} AS m JOIN ({ids}) AS asked ON m.{found_by} = asked.id"
            )
        asked = [self._dates_of_sql(self._dated, self._date, self._key, keys, with_range=not through)]
        for table, each in self._own_dates:
            direct = through == table.name
            column = reference_to(table, silver_table(about) if direct else self._dated)
            if column:
                day = _date_sql(table, each)
                asked.append(
                    self._dates_of_sql(table, day, column, ids if direct else keys, with_range=not through, where=each.where)
                )
        return self._read_dates(f"SELECT DISTINCT * FROM ({' UNION ALL '.join(asked)}) AS found")

    def _dates_of_sql(self, table: Table, day: str, column: str, ids: str, *, with_range: bool, where: str = "") -> str:
        """Return SQL for run dates of ids and dates of the rows whose column is among the ids.

        With the range of the ids, few files are read.
        """
        conditions = [f"({where})"] if where else []
        if with_range:
            conditions.append(self.stage.engine.range_predicate(column, f"SELECT id AS {column} FROM ({ids}) AS asked"))
        rows = f"SELECT {column} AS _asked_id, {day} AS day FROM {table.full_name}"
        if conditions:
            rows += f" WHERE {' AND '.join(conditions)}"
        return (
            f"SELECT asked.{CHANGED_BY}, found.day FROM ({rows}) AS found JOIN ({ids}) AS asked ON found._asked_id = asked.id"
        )

    def _find_moved_first_dates(self, column: str, differing: str, changes: RowChanges) -> set[DatePair]:
        """Return the first dates before and after the changes, where the first date of a value of ``column`` changes."""
        engine = self.stage.engine
        engine.refresh(self._dated.full_name)
        engine.create_view("changed.before", f"SELECT {self._key} FROM ({changes.before_sql}) AS before")
        engine.create_view("changed.after", f"SELECT {column}, {self._date} FROM ({changes.after_sql}) AS after")
        if len(changes.dates) > 1:
            return self._find_passing_first_dates(column, changes)
        return self._read_dates(
            f"""
            WITH items AS (SELECT DISTINCT {column} AS item, {CHANGED_BY} FROM {differing}),
            either AS (
                SELECT {column} AS item, {self._date} AS was,
                    CASE WHEN {self._key} NOT IN (SELECT {self._key} FROM changed.before) THEN {self._date} END AS becomes
                FROM {self._dated.full_name}
                UNION ALL SELECT {column}, NULL, {self._date} FROM changed.after
            ),
            firsts AS (
                SELECT {CHANGED_BY}, item, min(was) AS was, min(becomes) AS becomes
                FROM either JOIN items USING (item) GROUP BY ALL
            ),
            moved AS (SELECT DISTINCT {CHANGED_BY}, was, becomes FROM firsts WHERE was IS DISTINCT FROM becomes)
            SELECT {CHANGED_BY}, was FROM moved UNION SELECT {CHANGED_BY}, becomes FROM moved
            """
        )

    def _find_passing_first_dates(self, column: str, changes: RowChanges) -> set[DatePair]:
        """Return the dates that can be the first of a value of ``column`` at some time while the dates of a range are merged.

        Where a date changes the first date, the earlier of the two is that of a row which it changes. The other one is not
        later than that of all rows that no date changes, and of a row that is stored or that no later date brings.
        """
        engine = self.stage.engine
        engine.create_view("changed.found_rows", changes.differing_sql([column, self._date]))
        engine.create_table("changed.moving", "SELECT * FROM changed.found_rows")
        return self._read_dates(
            f"""
            WITH mine AS (
                SELECT {column} AS item, {CHANGED_BY}, min({self._date}) AS earliest FROM changed.moving GROUP BY ALL
            ),
            unchanged AS (
                SELECT {column} AS item, min({self._date}) AS stays FROM {self._dated.full_name}
                WHERE {column} IN (SELECT item FROM mine) AND {self._key} NOT IN (SELECT {self._key} FROM changed.moving)
                GROUP BY ALL
            ),
            possible AS (
                SELECT {column} AS item, {self._date} AS day,
                    CASE WHEN {self._key} NOT IN (SELECT {self._key} FROM changed.before) THEN {CHANGED_BY} END AS since
                FROM changed.moving
                UNION ALL SELECT item, stays, NULL FROM unchanged
            )
            SELECT DISTINCT {CHANGED_BY}, day
            FROM mine LEFT JOIN unchanged USING (item) JOIN possible USING (item)
            WHERE day >= earliest AND (stays IS NULL OR earliest < stays AND day <= stays)
                AND (since IS NULL OR since <= {CHANGED_BY})
            """
        )

    def _read_dates(self, sql: str) -> set[DatePair]:
        """Return the run dates and dates in the only columns of a query's rows."""
        return {(run_date, day) for run_date, day in self.stage.engine.rows(sql) if day is not None}


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
