"""Print the table of ``--profile``: where the time of a run went."""

from daybook.cli.app import console, new_table
from daybook.records.archive import Archive
from daybook.records.models import RunRecord
from daybook.records.timings import END_PHASE, PHASES, WAIT_PHASE, attempt_timings


def print_profile(archive: Archive, record: RunRecord) -> None:
    """Print a row for each attempt, in seconds, then their sums and how long the run took."""
    rows = [row for row in attempt_timings(record.stages, archive.history(record.run_id)) if row.phases]
    if not rows:
        console.print("Its attempts have no times on record: they are older than --profile, or were cut off.", soft_wrap=True)
        return
    names = [name for name in (WAIT_PHASE, *PHASES, END_PHASE) if any(name in row.phases for row in rows)]
    tables = sorted({name for row in rows for name in row.tables})
    columns = [*names, "in all", *(f"({name})" for name in tables)]
    table = new_table("seconds", *columns, right=tuple(columns))
    for row in rows:
        stage = row.stage if row.attempt == 1 else f"{row.stage} ({row.attempt})"
        table.add_row(stage, *_format_seconds(row.phases, names), f"{row.total:.2f}", *_format_seconds(row.tables, tables))
    sums = {name: sum(row.phases.get(name, 0.0) for row in rows) for name in names}
    spent = {name: sum(row.tables.get(name, 0.0) for row in rows) for name in tables}
    whole = sum(row.total for row in rows)
    table.add_row("all", *_format_seconds(sums, names), f"{whole:.2f}", *_format_seconds(spent, tables))
    console.print(table)
    console.print(
        f"From its start to its record, which its last stage writes, the run took {record.seconds or 0.0:.2f} s. "
        "In brackets: of opening and cells, what tables took.",
        soft_wrap=True,
    )


def _format_seconds(found: dict[str, float], names: list[str]) -> list[str]:
    return [f"{found[name]:.2f}" if name in found else "" for name in names]
