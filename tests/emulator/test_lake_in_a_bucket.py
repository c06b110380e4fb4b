"""Test tables and records in a bucket, where only conditional puts separate concurrent writers."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from daybook.engines import DuckDBEngine
from daybook.errors import DateLockedError, LeaseLostError
from daybook.execution.development import temporary_copy
from daybook.lake.compaction import COMPACTION_MIN_FILES
from daybook.lake.migrate import migrate_table
from daybook.lake.publish import publish
from daybook.lake.rewrite import list_tables
from daybook.lake.tables import Lake
from daybook.records.archive import Archive
from daybook.records.leases import lease_dates, release_dates
from daybook.review.comparison import compare_development_copy, compare_versions
from daybook.settings import load_settings
from daybook.storage import Store
from tests.emulator.emulator import Account
from tests.lake.tables import PAYMENTS, payments
from tests.lake.writing import replace_date

pytestmark = pytest.mark.slow

DAY = date(2025, 11, 1)
WRITERS, DATES = 4, 5
WRITER = """
import sys
from datetime import date, timedelta
import pyarrow as pa
from daybook.lake.tables import Lake, add_run_date
root, number, dates, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), date.fromisoformat(sys.argv[4])
lake = Lake(root, run_id=f"writer-{number}")
sys.stdin.readline()
for day in range(dates):
    rows = pa.table({"order_id": [f"{number}-{day}-{row}" for row in range(3)]})
    day_of_rows = first + timedelta(days=number * dates + day)
    lake.replace_dates("bronze.orders", add_run_date(rows, day_of_rows), [day_of_rows])
    lake.append("bronze.shared", rows, first)
"""
HOLDER = """
import sys
from datetime import date
from daybook.errors import DateLockedError
from daybook.records.leases import lease_dates, release_dates
root, number, day = sys.argv[1], int(sys.argv[2]), date(2025, 11, 1)
run_id = f"daily-2025-11-01-{number}"
try:
    print("held", lease_dates(root, run_id, [day]).tokens[day])
    release_dates(root, run_id, [day])
except DateLockedError:
    print("refused")
"""


def test_concurrent_writers_lose_no_commit(aws_account: Account) -> None:
    root = f"s3://{aws_account.new_bucket()}/lake"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, root, str(number), str(DATES), DAY.isoformat()],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("now\n")
        writer.stdin.flush()
    ended = [writer.communicate(timeout=300) for writer in writers]
    assert [(writer.returncode, err) for writer, (_, err) in zip(writers, ended)] == [(0, "")] * WRITERS

    lake = Lake(root)
    assert lake.run_dates("bronze.orders") == [DAY + timedelta(days=number) for number in range(WRITERS * DATES)]
    engine = DuckDBEngine(lake, "UTC")
    for table in ("bronze.orders", "bronze.shared"):
        assert engine.rows(f"SELECT count(*), count(DISTINCT order_id) FROM {table}") == [(WRITERS * DATES * 3,) * 2]
        # One commit each, and the one that made the table: nobody's took the place of another's.
        assert lake.version(table) == WRITERS * DATES


def test_concurrent_starts_get_different_names(aws_account: Account) -> None:
    uri = f"s3://{aws_account.new_bucket()}/archive"
    take = f"print(Archive({uri!r}).start_run(date(2025, 11, 1), {{}}))"
    code = f"from datetime import date; from daybook.records.archive import Archive; {take}"
    starters = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    names = sorted(starter.communicate(timeout=120)[0].strip() for starter in starters)
    assert names == [f"daily-2025-11-01-{number}" for number in range(1, 5)]
    assert Archive(uri).run_ids() == names


def test_table_in_bucket_is_read_at_recorded_version(aws_account: Account) -> None:
    lake = Lake(f"s3://{aws_account.new_bucket()}/a folder/lake", run_id="one")
    for name in ("before", "after"):
        replace_date(lake, "bronze.orders", pa.table({"order_id": [name]}), DAY)
    engine = DuckDBEngine(lake, "UTC")
    assert engine.rows("SELECT order_id FROM bronze.orders") == [("after",)]
    lake.pin({"bronze.orders": 1})
    assert DuckDBEngine(lake, "UTC").rows("SELECT order_id FROM bronze.orders") == [("before",)]


def test_table_in_bucket_is_compacted_and_migrated(aws_account: Account) -> None:
    lake = Lake(f"s3://{aws_account.new_bucket()}/a folder/lake", run_id="daily-2025-11-01-1")
    days = [DAY + timedelta(days=number) for number in range(COMPACTION_MIN_FILES)]
    for day in days:
        replace_date(lake, "bronze.orders", pa.table({"order_id": [str(day)]}), day)
    assert lake.compact("bronze.orders")
    (table,) = list_tables(lake.root)
    assert migrate_table(table, back=True)
    assert migrate_table(table)
    assert len(table.open().file_uris()) == 1
    engine = DuckDBEngine(Lake(lake.root), "UTC")
    assert engine.rows("SELECT order_id FROM bronze.orders ORDER BY run_date") == [(str(day),) for day in days]


def test_spilling_query_reads_bucket(aws_account: Account, tmp_path: Path) -> None:
    lake = Lake(f"s3://{aws_account.new_bucket()}/lake", run_id="one")
    keys = [f"order-{number:07d}" for number in range(200_000)]
    replace_date(lake, "bronze.orders", pa.table({"order_id": keys}), DAY)
    engine = DuckDBEngine(lake, "UTC", spill=tmp_path)
    assert engine.rows("SELECT count(*) FROM (SELECT order_id FROM bronze.orders ORDER BY order_id DESC)") == [(200_000,)]


def test_versions_in_a_bucket_are_compared(aws_account: Account) -> None:
    lake = Lake(f"s3://{aws_account.new_bucket()}/lake", run_id="daily-2025-11-01-1")
    settings = load_settings("local", {"lake": lake.root})
    days = [DAY + timedelta(days=number) for number in range(2)]
    publish(lake, PAYMENTS, payments(*((day, "1.00") for day in days)), days)
    publish(Lake(lake.root, run_id="daily-2025-11-02-1"), PAYMENTS, payments((days[1], "2.50")), days[1:])
    publish(Lake(lake.root, development="ana"), PAYMENTS, payments((days[1], "3.00")), days[1:])
    earlier = compare_versions(settings, "1", tables=["gold.payment_mix"])
    copy = compare_development_copy(settings, "ana")
    assert [(each.rows_before, each.changed) for each in (*earlier.tables, *copy.tables)] == [(2, 1), (1, 1)]


def test_temporary_copy_is_removed_from_a_bucket(aws_account: Account, home: Path) -> None:
    root = f"s3://{aws_account.new_bucket()}/lake"
    rows = pa.table({"order_id": ["a"]})
    replace_date(Lake(root, run_id="one"), "bronze.orders", rows, DAY)
    published = Store(root).keys()
    with temporary_copy(root) as name:
        replace_date(Lake(root, development=name), "bronze.orders", rows, DAY)
        assert len(Store(root).keys()) > len(published)
    assert Store(root).keys() == published


def test_concurrent_runs_never_hold_the_same_date(aws_account: Account) -> None:
    root = f"s3://{aws_account.new_bucket()}/lake"
    starters = [
        subprocess.Popen([sys.executable, "-c", HOLDER, root, str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    ended = [starter.communicate(timeout=120)[0].split() for starter in starters]
    # Each run that got the date has a token of its own.
    tokens = sorted(int(words[1]) for words in ended if words[0] == "held")
    assert tokens == list(range(1, len(tokens) + 1))
    assert tokens
    lease_dates(root, "daily-2025-11-01-9", [DAY])
    with pytest.raises(DateLockedError, match="2025-11-01 is held by daily-2025-11-01-9 until"):
        lease_dates(root, "range-2025-10-31-2025-11-01-1", [DAY - timedelta(days=1), DAY])


def test_outdated_holder_commits_nothing_in_a_bucket(aws_account: Account) -> None:
    root = f"s3://{aws_account.new_bucket()}/lake"
    rows = pa.table({"order_id": ["a"]})
    lost = Lake(root, run_id="daily-2025-11-01-1", leases=lease_dates(root, "daily-2025-11-01-1", [DAY]))
    replace_date(lost, "bronze.orders", rows, DAY)
    release_dates(root, "daily-2025-11-01-1", [DAY])
    days = [DAY, DAY + timedelta(days=1)]
    held = lease_dates(root, "range-2025-11-01-2025-11-02-1", days)
    assert held is not None
    assert list(held.tokens.values()) == [2, 1]
    with pytest.raises(LeaseLostError, match="range-2025-11-01-2025-11-02-1 has taken the date"):
        replace_date(lost, "bronze.orders", rows, DAY)
    replace_date(Lake(root, run_id=held.run_id, leases=held), "bronze.orders", rows, DAY)
    assert Lake(root).version("bronze.orders") == 2
