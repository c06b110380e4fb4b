"""Test that a run over a range leaves an ordinary record for each of its dates, and that the parts add up to the range."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daybook.errors import ObjectExistsError, UsageError
from daybook.records.archive import LOST_REASON, Archive, serialize_record
from daybook.records.locks import DateLocks
from daybook.records.models import StartRecord
from daybook.records.names import STAGES
from daybook.records.ranges import (
    build_date_records,
    date_outcome,
    judge_dates,
    order_runs,
    slice_attempts,
    worst_outcome,
)
from tests.range_records import add_range, build_attempts, build_range_record, close_range
from tests.sample_records import attempt_record, rollback_record, run_record

FIRST, LAST = date(2025, 11, 1), date(2025, 11, 3)
RANGE = "range-2025-11-01-2025-11-03-1"
DAYS = ["2025-11-01", "2025-11-02", "2025-11-03"]
DATE_RUNS = {day: f"daily-{day}-2" for day in DAYS}


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(str(tmp_path / "archive"))


# Ids


def test_range_takes_a_date_run_for_each_date(archive: Archive) -> None:
    assert archive.start_range(FIRST, LAST, {"env": "local"}) == RANGE
    assert archive.started(RANGE).dates == DATE_RUNS
    assert archive.run_ids() == list(DATE_RUNS.values())
    assert archive.range_ids() == [RANGE]
    started = archive.started("daily-2025-11-02-2")
    assert (started.range_id, started.env) == (RANGE, "local")


def test_date_run_never_has_the_number_of_the_night(archive: Archive) -> None:
    archive.start_range(FIRST, LAST, {})
    archive.start_named_run("daily-2025-11-02-1", {})
    assert archive.start_range(FIRST, LAST, {}) == "range-2025-11-01-2025-11-03-2"
    assert archive.started("range-2025-11-01-2025-11-03-2").dates["2025-11-02"] == "daily-2025-11-02-3"


def test_run_of_one_date_has_the_next_number_after_a_date_run(archive: Archive) -> None:
    archive.start_range(FIRST, LAST, {})
    assert archive.start_run(FIRST, {}) == "daily-2025-11-01-3"


def test_taken_range_id_is_refused(archive: Archive) -> None:
    archive.start_named_run(RANGE, {})
    with pytest.raises(ObjectExistsError):
        archive.start_named_run(RANGE, {})
    archive.ensure_started(RANGE)
    assert archive.run_ids() == list(DATE_RUNS.values())


@pytest.mark.parametrize("killed_before", range(5))
def test_range_is_completed_after_a_kill(archive: Archive, monkeypatch: pytest.MonkeyPatch, killed_before: int) -> None:
    create, left = archive.store.create, killed_before

    def create_or_end(key: str, data: bytes) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        create(key, data)

    monkeypatch.setattr(archive.store, "create", create_or_end)
    with pytest.raises(KeyboardInterrupt):
        archive.ensure_started(RANGE, {"env": "local"})
    monkeypatch.undo()
    assert [archive.run(run_id).state for run_id in archive.run_ids() + archive.range_ids()] == ["lost"] * killed_before
    archive.ensure_started(RANGE, {"env": "local"})
    assert archive.started(RANGE).dates == DATE_RUNS
    assert archive.run_ids() == list(DATE_RUNS.values())


# Closed ranges


def test_each_date_has_a_record_of_its_own(archive: Archive) -> None:
    archive.start_range(FIRST, LAST, {})
    ends = {"2025-11-02": ("validate", "REJECTED"), "2025-11-03": ("ingest", "FAILED")}
    record = close_range(archive, RANGE, ends, fingerprint={"logic": 1}, env="local")
    good, rejected, failed = map(archive.run, DATE_RUNS.values())
    assert [each.outcome for each in (good, rejected, failed)] == ["SUCCEEDED", "REJECTED", "FAILED"]
    assert record.outcome == "FAILED"
    assert rejected.reasons == ["validate came to REJECTED for 2025-11-02"]
    assert failed.reasons == [
        "ingest failed (attempt 1, not retried: the same input would fail again): FormatError: 2025-11-03 is corrupt"
    ]
    assert [each.stage for each in good.stages] == list(STAGES)
    assert [each.stage for each in rejected.stages] == ["ingest", "validate"]
    assert [each.file for each in good.stages[0].inputs] == ["orders/2025-11-01.csv"]
    assert good.summary == {"orders": 3}
    assert rejected.summary is None
    assert (good.range_id, good.run_date, good.fingerprint, good.state) == (RANGE, FIRST, {"logic": 1}, "closed")
    assert not good.is_range


def test_range_has_the_outcome_of_each_date(archive: Archive) -> None:
    archive.start_range(FIRST, LAST, {})
    close_range(archive, RANGE, {"2025-11-02": ("validate", "REJECTED")})
    found = archive.run(RANGE)
    assert {day: (each.run_id, each.outcome) for day, each in found.dates.items()} == {
        "2025-11-01": ("daily-2025-11-01-2", "SUCCEEDED"),
        "2025-11-02": ("daily-2025-11-02-2", "REJECTED"),
        "2025-11-03": ("daily-2025-11-03-2", "SUCCEEDED"),
    }
    assert (found.is_range, found.until, found.state, found.missing) == (True, LAST, "closed", [])


def test_record_that_a_kill_kept_from_being_written_is_computed(archive: Archive, tmp_path: Path) -> None:
    archive.start_range(FIRST, LAST, {})
    close_range(archive, RANGE)
    run_id = DATE_RUNS["2025-11-02"]
    written = archive.run(run_id)
    (tmp_path / "archive" / archive.folder(run_id) / "run.json").unlink()
    assert archive.run(run_id) == written
    assert archive.read_closing_records(run_id) == [written.changed(state=None)]
    archive.write_date_records(archive.run(RANGE))
    archive.write_date_records(archive.run(RANGE))
    assert archive.store.exists(f"{archive.folder(run_id)}/run.json")
    assert archive.run(run_id) == written


def test_resumed_range_writes_further_records_of_its_dates(archive: Archive) -> None:
    archive.start_range(FIRST, LAST, {})
    failed = build_attempts(RANGE, DAYS, {"2025-11-02": ("transform", "FAILED")})
    archive.write_run(build_range_record(RANGE, DATE_RUNS, failed))
    archive.write_run(build_range_record(RANGE, DATE_RUNS, build_attempts(RANGE, DAYS, {})))
    assert archive.store.exists("run_date=2025-11-02/daily-2025-11-02-2/run.redrive-1.json")
    assert archive.run("daily-2025-11-02-2").outcome == "SUCCEEDED"
    assert [each.outcome for each in archive.read_closing_records("daily-2025-11-02-2")] == ["FAILED", "SUCCEEDED"]


def test_record_of_a_date_is_written_once(archive: Archive) -> None:
    archive.start_range(FIRST, LAST, {})
    key = "run_date=2025-11-02/daily-2025-11-02-2/run.json"
    first = serialize_record(run_record("daily-2025-11-02-2", range_id=RANGE))
    archive.store.create(key, first)
    close_range(archive, RANGE)
    assert archive.store.read(key) == first


def test_files_of_a_date_are_those_of_its_range(archive: Archive, tmp_path: Path) -> None:
    archive.start_range(FIRST, LAST, {})
    close_range(archive, RANGE, lineage={})
    archive.write_history(RANGE, b'{"id": 1}\n')
    archive.write_lineage_events(RANGE, b"{}\n")
    found = archive.run("daily-2025-11-02-2")
    assert found.missing == []
    assert [each.missing for each in found.stages] == [[]] * 6
    notebook = found.stages[0].notebook
    assert notebook is not None
    assert archive.store.read(f"{archive.folder(found.stages[0].run_id)}/{notebook.file}") == b"notebook"
    assert archive.files_run_id("daily-2025-11-02-2") == RANGE
    assert archive.history("daily-2025-11-02-2") == [{"id": 1}]
    (tmp_path / "archive" / "ranges" / RANGE / "1_ingest.attempt-1.html").unlink()
    assert archive.run("daily-2025-11-02-2").stages[0].missing == ["1_ingest.attempt-1.html"]


def test_rollback_of_a_range_concerns_its_dates(archive: Archive) -> None:
    archive.start_range(FIRST, LAST, {})
    close_range(archive, RANGE)
    archive.write_rollback(rollback_record("daily-2025-11-01-2"))
    assert archive.run("daily-2025-11-01-2").rolled_back
    assert archive.run("daily-2025-11-02-2").rolled_back is None
    archive.write_rollback(rollback_record("daily-2025-11-01-2", run_date=FIRST).changed(run_id=RANGE))
    assert archive.run("daily-2025-11-02-2").rolled_back


def test_run_of_one_date_has_no_keys_of_ranges(archive: Archive) -> None:
    archive.start_run(FIRST, {})
    archive.write_run(run_record("daily-2025-11-01-1"))
    for name in ("started.json", "run.json"):
        text = archive.store.read(f"run_date=2025-11-01/daily-2025-11-01-1/{name}").decode()
        assert not [key for key in ("range", "dates", "until", "halves") if f'"{key}' in text]


# Open ranges


def test_date_of_a_lost_range_is_lost(archive: Archive) -> None:
    archive.start_range(FIRST, LAST, {})
    for attempt in build_attempts(RANGE, DAYS, {})[:2]:
        archive.write_attempt(attempt, b"notebook", b"page")
    found = archive.run("daily-2025-11-02-2")
    assert (found.outcome, found.state, found.reasons) == ("FAILED", "lost", [LOST_REASON])
    assert [(each.stage, each.rows.rows_in, each.missing) for each in found.stages] == [
        ("ingest", 10, []),
        ("validate", 10, []),
    ]
    assert archive.run(RANGE).dates["2025-11-02"].outcome == "FAILED"


def test_date_of_a_running_range_is_running(archive: Archive) -> None:
    archive.start_range(FIRST, LAST, {})
    with DateLocks(archive.store.uri, [FIRST]) as first, DateLocks(archive.store.uri, [FIRST + timedelta(days=1)]) as second:
        first.write_holder(RANGE)
        second.write_holder(RANGE)
        found = archive.run("daily-2025-11-02-2")
        assert (found.outcome, found.state) == ("RUNNING", "running")
        assert RANGE in found.reasons[0]
        whole = archive.run(RANGE)
        assert (whole.outcome, whole.state, whole.until) == ("RUNNING", "running", LAST)
        second.write_holder("daily-2025-11-02-3")
        assert archive.run("daily-2025-11-02-2").state == "lost"


def test_unknown_range_is_refused(archive: Archive) -> None:
    with pytest.raises(UsageError, match=f"There is no run {RANGE}; `daybook runs` lists them"):
        archive.run(RANGE)


# The order of runs


def start(run_id: str, at: str, range_id: Optional[str] = None) -> StartRecord:
    return StartRecord(run_id=run_id, started_at=at, range_id=range_id)


@pytest.mark.parametrize(
    "night, worked_until, expected",
    [
        ("03:00", "02:30", ["daily-2025-11-01-2", "daily-2025-11-01-1"]),
        ("01:00", "02:30", ["daily-2025-11-01-1", "daily-2025-11-01-2"]),
        # The night could not take the date, which the range published later.
        ("02:10", "02:30", ["daily-2025-11-01-1", "daily-2025-11-01-2"]),
        ("02:10", None, ["daily-2025-11-01-1", "daily-2025-11-01-2"]),
    ],
)
def test_night_is_newer_than_a_date_run_that_had_ended(night: str, worked_until: Optional[str], expected: list[str]) -> None:
    names = ["daily-2025-11-01-1", "daily-2025-11-01-2"]
    records = {names[0]: start(names[0], f"T{night}"), names[1]: start(names[1], "T02:00", RANGE)}
    stages = [attempt_record(started_at="T02:01", ended_at=f"T{worked_until}")] if worked_until else []
    run = run_record(names[1], "FAILED" if worked_until else "RUNNING", range_id=RANGE, stages=stages)
    assert order_runs(names, records.__getitem__, lambda name: run) == expected


def test_runs_of_a_date_are_ordered_by_number_whatever_the_clock(archive: Archive) -> None:
    names = [f"daily-2025-11-01-{number}" for number in (10, 1, 2)]
    records = {name: start(name, f"T0{9 - index}") for index, name in enumerate(names)}
    expected = ["daily-2025-11-01-1", "daily-2025-11-01-2", "daily-2025-11-01-10"]
    assert order_runs(names, records.__getitem__, archive.run) == expected


def test_archive_lists_the_night_after_an_earlier_range(archive: Archive) -> None:
    archive.start_range(FIRST, LAST, {})
    close_range(archive, RANGE)
    archive.start_named_run("daily-2025-11-02-1", {})
    assert archive.run_ids(date(2025, 11, 2)) == ["daily-2025-11-02-2", "daily-2025-11-02-1"]
    assert archive.next_run_id(date(2025, 11, 2)) == "daily-2025-11-02-3"


# Slices


def test_worst_outcome_decides() -> None:
    assert worst_outcome(["SKIPPED", "SUCCEEDED"]) == "SUCCEEDED"
    assert worst_outcome(["SKIPPED", "SUCCEEDED", "REJECTED"]) == "REJECTED"
    assert worst_outcome(["REJECTED", "FAILED", "SUCCEEDED"]) == "FAILED"
    assert worst_outcome(["SKIPPED"]) == "SKIPPED"


def test_date_that_had_ended_has_no_slice() -> None:
    attempts = build_attempts(RANGE, DAYS, {"2025-11-02": ("validate", "REJECTED")})
    assert [each.outcome for each in slice_attempts(attempts, DAYS)["2025-11-02"]] == ["SUCCEEDED", "REJECTED"]
    assert date_outcome(attempts, date(2025, 11, 2)) == ("REJECTED", ["validate came to REJECTED for 2025-11-02"])
    assert date_outcome(attempts, FIRST) == ("SUCCEEDED", [])


def test_fault_of_a_stage_concerns_dates_that_had_not_ended() -> None:
    attempts = build_attempts(RANGE, DAYS, {"2025-11-02": ("validate", "REJECTED")})[:2]
    failure = {"exception": "EngineError", "message": "out of memory"}
    fault = attempt_record("transform", "FAILED", run_id=RANGE, seconds=1.0, failure=failure)
    slices = slice_attempts([*attempts, fault], DAYS)
    assert [[each.outcome for each in found] for found in slices.values()] == [
        ["SUCCEEDED", "SUCCEEDED", "FAILED"],
        ["SUCCEEDED", "REJECTED"],
        ["SUCCEEDED", "SUCCEEDED", "FAILED"],
    ]
    assert [slices[day][-1].seconds for day in ("2025-11-01", "2025-11-03")] == [0.5, 0.5]
    outcomes = judge_dates([*attempts, fault], DATE_RUNS)
    assert [each.outcome for each in outcomes.values()] == ["FAILED", "REJECTED", "FAILED"]


def test_slice_has_details_that_hold_for_each_date() -> None:
    results = {day: {"outcome": "SUCCEEDED", "details": {"warnings": [day]}} for day in DAYS}
    details = {"snapshot": {"silver.orders": 4}, "raw_reads": [{"reason": "a check"}], "warnings": DAYS}
    whole = attempt_record("aggregate", run_id=RANGE, details=details, dates=results)
    (found,) = slice_attempts([whole], DAYS)["2025-11-01"]
    assert found.details.to_json() == {
        "warnings": ["2025-11-01"],
        "snapshot": {"silver.orders": 4},
        "raw_reads": [{"reason": "a check"}],
    }


def test_retry_after_a_fault_decides_the_outcome() -> None:
    fault = attempt_record("ingest", "FAILED", run_id=RANGE, failure={"exception": "LakeError", "message": "conflict"})
    attempts = [
        fault,
        *(each.changed(attempt=2) if each.stage == "ingest" else each for each in build_attempts(RANGE, DAYS, {})),
    ]
    assert date_outcome(attempts, FIRST) == ("SUCCEEDED", [])


def test_range_that_ended_early_fails_its_dates() -> None:
    record = build_range_record(RANGE, DATE_RUNS, build_attempts(RANGE, DAYS, {})[:3], reasons=["it was stopped"])
    assert record.outcome == "FAILED"
    assert build_date_records(record)["2025-11-02"].reasons == ["it was stopped"]


ENDS = st.tuples(st.sampled_from(STAGES[:-1]), st.sampled_from(["REJECTED", "FAILED", "SKIPPED"]))
COST = {
    "basis": "measured",
    "currency": "USD",
    "jobs": [{"stage": stage, "seconds": 61, "dpu": "0.0625", "amount": "0.00046597"} for stage in STAGES],
    "executions": [{"execution": "arn", "transitions": 29}],
    "transitions": {"count": 29, "amount": "0.00072500"},
    "writes": {"count": 101, "amount": "0.00050500"},
    "reads": {"count": None, "amount": None},
    "total": "0.00402582",
    "not_counted": ["taxes"],
}


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(2, 9),
    ends=st.dictionaries(st.integers(0, 8), ENDS),
    seconds=st.integers(0, 10_000_000),
    rows=st.lists(st.integers(0, 10**6), min_size=9, max_size=9),
)
def test_parts_of_dates_add_up_to_the_range(
    count: int, ends: dict[int, tuple[str, str]], seconds: int, rows: list[int]
) -> None:
    days = [(FIRST + timedelta(days=number)).isoformat() for number in range(count)]
    range_id = f"range-{days[0]}-{days[-1]}-1"
    attempts = build_attempts(range_id, days, {days[number]: end for number, end in ends.items() if number < count})
    for attempt in attempts:
        for day, result in attempt.dates.items():
            result.rows.rows_in = rows[days.index(day)]
        attempt.rows.rows_in = sum(each.rows.rows_in or 0 for each in attempt.dates.values())
        attempt.seconds = seconds / 1000
    slices = slice_attempts(attempts, days)
    for attempt in attempts:
        own = [each for found in slices.values() for each in found if each.stage == attempt.stage]
        assert sum(each.rows.rows_in or 0 for each in own) == attempt.rows.rows_in
        assert sum(each.rows.rows_out or 0 for each in own) == attempt.rows.rows_out
        assert sum(round(1000 * (each.seconds or 0)) for each in own) == seconds
    date_runs = {day: f"daily-{day}-2" for day in days}
    record = build_range_record(range_id, date_runs, attempts, seconds=seconds / 1000, cost=COST)
    found = list(build_date_records(record).values())
    assert [each.run_id for each in found] == list(date_runs.values())
    assert sum(round(1000 * (each.seconds or 0)) for each in found) == seconds
    costs = [each.cost for each in found if each.cost]
    assert sum(Decimal(each.total) for each in costs) == Decimal("0.00402582")
    assert [sum(each.jobs[stage].seconds for each in costs) for stage in range(6)] == [61] * 6
    assert sum(each.transitions.count or 0 for each in costs) == 29
    for each in costs:
        amounts = [*(job.amount for job in each.jobs), each.transitions.amount, each.writes.amount]
        assert Decimal(each.total) == sum(Decimal(amount or 0) for amount in amounts)
        assert (each.share_of, each.reads.count, each.not_counted) == (range_id, None, ["taxes"])


def test_range_is_listed_by_its_dates(archive: Archive) -> None:
    days = [date(2025, 11, 1), date(2025, 12, 1), date(2025, 10, 1)]
    added = [add_range(archive, day, day + timedelta(days=2)) for day in days]
    assert archive.range_ids() == sorted(added)
    assert archive.run_dates()[0] == date(2025, 10, 1)
