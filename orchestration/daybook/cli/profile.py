"""Print the table of ``--profile``: where the time of a run went."""

from daybook.cli.terminal import print_line, print_table
from daybook.records.archive import Archive
from daybook.records.models import RunRecord
from daybook.records.timings import END_PHASE, PHASES, WAIT_PHASE, attempt_timings


def print_profile(archive: Archive, record: RunRecord) -> None:
    """Print a row for each attempt, in seconds, then their sums and how long the run took; of a date run, its range."""
    record = archive.run(record.range_id) if record.range_id else record
    rows = [row for row in attempt_timings(record.stages, archive.history(record.run_id)) if row.phases]
    if not rows:
        print_line("Its attempts have no times on record: they are older than --profile, or were cut off.")
        return
    names = [name for name in (WAIT_PHASE, *PHASES, END_PHASE) if any(name in row.phases for row in rows)]
    tables = sorted({name for row in rows for name in row.tables})
    columns = [*names, "in all", *(f"({name})" for name in tables)]
    found = {
        row.stage if row.attempt == 1 else f"{row.stage} ({row.attempt})": {
            **row.phases,
            "in all": row.total,
            **{f"({name})": seconds for name, seconds in row.tables.items()},
        }
        for row in rows
    }
    found["all"] = {name: sum(seconds.get(name, 0.0) for seconds in found.values()) for name in columns}
    listed = [
        (stage, *(f"{seconds[name]:.2f}" if name in seconds else "" for name in columns)) for stage, seconds in found.items()
    ]
    print_table(["seconds", *columns], listed, right=columns)
    print_line(
        f"From its start to its record, which its last stage writes, the run took {record.seconds or 0.0:.2f} s. "
        "In brackets: of opening and cells, what tables took."
    )
