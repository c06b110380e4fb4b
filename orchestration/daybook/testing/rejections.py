"""Record test cases from a row in quarantine and from a rejected run.

The rules of the landing contract decide about a row, not a cell. So the case has the row as it landed, and expects the rules
that it breaks (``rejected.<entity>`` of notebook 2). Personal values are never read: other values take their place.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Callable, Optional

from daybook.contracts import LAYERS, load_tables
from daybook.errors import UsageError
from daybook.execution.decisions import QuarantinedRow, list_quarantined_rows
from daybook.quality.rules import SPLIT_RULE_NAME
from daybook.records.archive import Archive
from daybook.records.names import notebook_name, run_date_of
from daybook.settings import Settings
from daybook.testing.case import Case, Row
from daybook.testing.landing import LandingEngine
from daybook.testing.recorder import record_case

_PLACEHOLDERS = {"email": "c1@example.com", "phone": "+49 30 1234567"}
"""Values that take the place of personal ones, by PII class."""
_INVALID_TEXT = "?"
"""A value that breaks most patterns."""


def record_rejected_row(settings: Settings, place: str, run_date: Optional[date] = None) -> Case:
    """Return a case of a row in quarantine.

    Parameters
    ----------
    settings
        The deployment.
    place
        ``FILE:ROW`` as ``daybook quarantine list`` shows them, or the beginning of the row's digest.
    run_date
        The business date; needed if rows of several dates have this place.

    Raises
    ------
    UsageError
        Not exactly one row has this place, or its reasons depend on a personal value.
    """
    rows = list_quarantined_rows(settings, run_date=run_date)
    found = [each for each in rows if place == f"{each.source_file}:{each.row_number}" or each.digest.startswith(place)]
    if len(found) != 1:
        many = "No row" if not found else f"More than one row ({', '.join(str(each.run_date) for each in found)})"
        raise UsageError(
            f"{many} in quarantine is {place!r}; write FILE:ROW as `daybook quarantine list` shows them, and --date."
        )
    return _record_row(settings, LandingEngine(settings), found[0])


def record_rejected_run(settings: Settings, run_id: str, *, rows: int) -> list[Case]:
    """Return cases of a date that a gate rejected.

    If notebook 2 rejected it: a case for each set of rules that rows in quarantine break. If notebook 4 or 5 rejected it: a
    sample of the date for each gold table that the findings name.

    Raises
    ------
    UsageError
        The run was not rejected, or silver does not have its rows and no row is in quarantine.
    """
    record = Archive(settings.archive).run(run_id)
    refused = [each for each in record.stages if each.outcome == "REJECTED"]
    if not refused:
        raise UsageError(f"The run {run_id} ended as {record.outcome}; only a REJECTED run can be recorded.")
    run_date, stage = run_date_of(run_id), refused[-1].stage
    if stage == "validate":
        quarantined = reversed(list_quarantined_rows(settings, run_date=run_date))
        by_rules = {(each.entity, each.rules): each for each in quarantined if SPLIT_RULE_NAME not in each.rules}
        engine = LandingEngine(settings)
        cases = [_record_row(settings, engine, row) for _, row in sorted(by_rules.items())]
    else:
        about = [each.about.partition(":")[0] for each in refused[-1].details.refused]
        tables = dict.fromkeys(name for name in about if name in load_tables(LAYERS[-1]))
        cases = [record_case(settings, table, run_date, rows=rows) for table in tables]
    if not cases:
        raise UsageError(
            f"{run_id} was rejected in {notebook_name(stage)} by a rule about more than rows of gold or of an entity; write a "
            f"case by hand, or record one with --record TABLE --date {run_date}."
        )
    return cases


def _record_row(settings: Settings, engine: LandingEngine, row: QuarantinedRow) -> Case:
    if SPLIT_RULE_NAME in row.rules:
        raise UsageError(f"{row.source_file}:{row.row_number} does not split into columns, so there is no row to test.")
    case = Case(
        env=settings.env,
        notebook=notebook_name("validate"),
        table=f"rejected.{row.entity}",
        parameters={"run_date": row.run_date.isoformat()},
        name=f"{row.entity}: {'; '.join(row.rules)}",
        expect=[{"_reasons": "; ".join(row.rules)}],
    )

    def count_differences(values: Row) -> int:
        """Return how many rules decide otherwise about these values."""
        tried = case.model_copy(update={"given": {f"landed.{row.entity}": [_without_null(values)]}})
        found = engine.compute(case.table, engine.read_given(tried, row.run_date, {}), {"run_date": row.run_date}).to_pylist()
        reasons = {rule for each in found for rule in each["_reasons"].split("; ")}
        return len(reasons ^ set(row.rules))

    values, differences = _choose_values(engine, row, count_differences)
    if differences:
        raise UsageError(
            f"{row.source_file}:{row.row_number} breaks its rules by a personal value, by another row, or by an earlier "
            "contract, which a case cannot record; write one by hand."
        )
    return case.model_copy(update={"given": {f"landed.{row.entity}": [_without_null(values)]}})


def _choose_values(engine: LandingEngine, row: QuarantinedRow, count_differences: Callable[[Row], int]) -> tuple[Row, int]:
    """Return values by column, each the most general one with which the row breaks its rules, and how many rules differ."""
    columns = engine.source.entities[row.entity].columns
    texts = {
        item.name
        for item in engine.source.contracts[row.entity].properties
        if item.logicalType == "string" and not any(rule.arguments.validValues for rule in item.quality)
    }
    values: Row = {name: _placeholder(column.pii) if column.pii else row.values.get(name) for name, column in columns.items()}
    least = count_differences(values)
    for name, own in list(values.items()):
        options: list[Optional[str]] = [None]
        if columns[name].pii:
            options += [_INVALID_TEXT] if least else []
        elif own is not None and name in texts:
            options += [f"{name[0]}1", re.sub(r"\d", "0", own)]
        for option in options if own is not None else ():
            differences = count_differences({**values, name: option})
            if differences < least or differences == least == 0:
                values[name], least = option, differences
                break
    return values, least


def _placeholder(pii: str) -> str:
    return _PLACEHOLDERS.get(pii, "c1")


def _without_null(values: Row) -> Row:
    return {name: text for name, text in values.items() if text is not None}
