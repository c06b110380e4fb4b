"""Test plans, continuation and results of backfills, on archives with made-up records."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import daybook.scheduling.backfills
from daybook.errors import UsageError
from daybook.records.archive import Archive
from daybook.records.locks import DateLocks
from daybook.records.models import DateOutcome, Notification, PlannedDate
from daybook.records.names import STAGES
from daybook.scheduling.backfills import (
    MAX_DATES,
    NOT_STARTED,
    BackfillPlan,
    close_backfill,
    count_outcomes,
    is_backfill,
    is_planned,
    overall_outcome,
    plan_backfill,
    plan_catch_up,
    read_backfill,
    read_backfills,
    read_results,
    record_refusal,
    start_backfill,
    write_backfill_history,
)
from daybook.settings import Settings, load_settings
from tests.sample_records import rollback_record
from tests.scheduling.backfilling import add_run, build_plan, day, run_backfill, write_run_record


@pytest.fixture
def settings(home: Path) -> Settings:
    return load_settings("local")


@pytest.fixture
def archive(settings: Settings) -> Archive:
    return Archive(settings.archive)


def planned(plan: BackfillPlan) -> dict[int, str]:
    """Return the days of the month that a plan runs, with their run ids."""
    return {each.run_date.day: each.run_id for each in plan.days}


def left_alone(plan: BackfillPlan) -> list[int]:
    return [each.day for each in plan.already_done]


# Plans


def test_dates_without_a_run_are_planned_with_both_ends(settings: Settings) -> None:
    plan = plan_backfill(settings, day(28), day(32))
    assert [each.run_id for each in plan.days] == [
        "daily-2025-11-28-2",
        "daily-2025-11-29-2",
        "daily-2025-11-30-2",
        "daily-2025-12-01-2",
        "daily-2025-12-02-2",
    ]
    assert (plan.already_done, plan.under_way, plan.missing_earlier_stages, plan.continues) == ((), (), (), None)


def test_dates_with_a_successful_newest_run_are_not_planned(settings: Settings, archive: Archive) -> None:
    add_run(archive, 1, "SUCCEEDED")
    add_run(archive, 2, "SKIPPED")
    add_run(archive, 3, "REJECTED")
    add_run(archive, 4, "FAILED")
    add_run(archive, 5, "FAILED")
    add_run(archive, 5, "SUCCEEDED")
    add_run(archive, 6, "SUCCEEDED")
    add_run(archive, 6, "FAILED")
    plan = plan_backfill(settings, day(1), day(6))
    assert planned(plan) == {3: "daily-2025-11-03-2", 4: "daily-2025-11-04-2", 6: "daily-2025-11-06-3"}
    assert left_alone(plan) == [1, 2, 5]


def test_rolled_back_dates_are_planned(settings: Settings, archive: Archive) -> None:
    run_id = add_run(archive, 1, "SUCCEEDED")
    archive.write_rollback(rollback_record(run_id))
    plan = plan_backfill(settings, day(1), day(1))
    assert [each.run_id for each in plan.days] == [f"daily-{day(1)}-2"]


def test_tenth_run_of_a_date_is_newer_than_the_ninth(settings: Settings, archive: Archive) -> None:
    for _ in range(9):
        add_run(archive, 1, "SUCCEEDED")
    add_run(archive, 1, "FAILED")
    assert planned(plan_backfill(settings, day(1), day(1))) == {1: "daily-2025-11-01-11"}


def test_force_runs_successful_dates_again(settings: Settings, archive: Archive) -> None:
    add_run(archive, 1, "SUCCEEDED")
    add_run(archive, 2, "SKIPPED")
    plan = plan_backfill(settings, day(1), day(3), force=True)
    assert planned(plan) == {1: "daily-2025-11-01-2", 2: "daily-2025-11-02-2", 3: "daily-2025-11-03-2"}


@pytest.mark.parametrize("force", [False, True])
def test_date_with_an_active_run_is_not_planned(settings: Settings, archive: Archive, force: bool) -> None:
    with DateLocks(settings.archive, [day(2)]) as lock:
        run_id = archive.start_run(day(2), {})
        lock.write_holder(run_id)
        plan = plan_backfill(settings, day(1), day(2), force=force)
    assert (list(planned(plan)), plan.under_way) == ([1], (run_id,))


def test_date_of_a_lost_run_is_planned(settings: Settings, archive: Archive) -> None:
    archive.start_run(day(1), {})
    assert planned(plan_backfill(settings, day(1), day(1))) == {1: "daily-2025-11-01-2"}


def test_later_stages_run_only_for_dates_that_reached_them(settings: Settings, archive: Archive) -> None:
    add_run(archive, 1, "SUCCEEDED")
    add_run(archive, 2, "SKIPPED")
    plan = plan_backfill(settings, day(1), day(3), first_stage="aggregate")
    assert (list(planned(plan)), left_alone(plan), list(plan.missing_earlier_stages)) == ([1], [2], [day(3)])


@pytest.mark.parametrize(
    ("stages", "ready"),
    [
        ({"ingest": "SUCCEEDED", "validate": "REJECTED"}, False),
        ({"ingest": "FAILED"}, False),
        ({"ingest": "SUCCEEDED", "validate": "SUCCEEDED"}, False),
        ({"ingest": "SUCCEEDED", "validate": "SUCCEEDED", "transform": "SUCCEEDED"}, True),
        ({**dict.fromkeys(STAGES[:4], "SUCCEEDED"), "quality": "REJECTED"}, True),
        ({"transform": "FAILED"}, False),
        ({"aggregate": "FAILED"}, True),
        ({"quality": "SUCCEEDED"}, True),
        ({}, True),
    ],
)
def test_later_stages_need_a_newest_run_that_reached_them(
    settings: Settings, archive: Archive, stages: dict[str, str], ready: bool
) -> None:
    add_run(archive, 1, "SUCCEEDED")
    add_run(archive, 1, "FAILED", stages=stages)  # Without any, it was stopped before its first, and the one before it counts.
    plan = plan_backfill(settings, day(1), day(1), first_stage="aggregate")
    assert (bool(plan.days), bool(plan.missing_earlier_stages)) == (ready, not ready)


def test_last_date_before_the_first_is_refused(settings: Settings) -> None:
    with pytest.raises(UsageError, match="The last date 2025-11-01 is before the first, 2025-11-02"):
        plan_backfill(settings, day(2), day(1))


def test_too_many_dates_are_refused(settings: Settings) -> None:
    assert len(plan_backfill(settings, day(1), day(MAX_DATES)).days) == MAX_DATES
    with pytest.raises(UsageError, match=r"are 1,001 dates; one backfill takes up to 1,000, so give it in parts"):
        plan_backfill(settings, day(1), day(MAX_DATES + 1))


def test_catch_up_plans_only_its_dates(settings: Settings, archive: Archive) -> None:
    add_run(archive, 2, "FAILED")
    plan = plan_catch_up(settings, [day(2), day(9)])
    assert (plan.kind, plan.first, plan.last) == ("catch-up", day(2), day(9))
    assert planned(plan) == {2: "daily-2025-11-02-2", 9: "daily-2025-11-09-1"}


# Going on


@pytest.mark.parametrize("options", [{"force": True}, {"first_stage": "aggregate"}], ids=str)
def test_dates_of_a_stopped_backfill_are_not_planned_again(
    settings: Settings, archive: Archive, options: dict[str, Any]
) -> None:
    for number in (1, 2, 3, 4, 5):
        add_run(archive, number, "SUCCEEDED")
    first = run_backfill(archive, plan_backfill(settings, day(1), day(5), **options), ["SUCCEEDED"])
    # The second date's run was stopped before its first stage.
    archive.start_named_run("daily-2025-11-02-2", {"part_of": first})
    write_run_record(archive, "daily-2025-11-02-2", "FAILED", stages={})
    close_backfill(archive, first, stopped=True)

    plan = plan_backfill(settings, day(1), day(5), **options)
    assert (plan.continues, left_alone(plan), list(planned(plan))) == (first, [1], [2, 3, 4, 5])
    second = run_backfill(archive, plan, ["SUCCEEDED", "SUCCEEDED"])
    close_backfill(archive, second, stopped=True)

    # Runs since the first of the continued backfills count, not only those of the last.
    plan = plan_backfill(settings, day(1), day(5), **options)
    assert (plan.continues, left_alone(plan), list(planned(plan))) == (second, [1, 2, 3], [4, 5])
    third = run_backfill(archive, plan, ["SUCCEEDED", "SUCCEEDED"])
    record = close_backfill(archive, third, message=Notification())
    assert [(f"{each.run_date:%d}", each.run_id[-1]) for each in record.results] == [
        ("01", "2"),
        ("02", "3"),
        ("03", "2"),
        ("04", "2"),
        ("05", "2"),
    ]
    assert record.counts == {"SUCCEEDED": 5}

    plan = plan_backfill(settings, day(1), day(5), **options)
    assert (plan.continues, len(plan.days)) == (None, 5)


def test_killed_backfill_is_continued(settings: Settings, archive: Archive) -> None:
    first = run_backfill(archive, plan_backfill(settings, day(1), day(3), force=True), ["SUCCEEDED"])
    plan = plan_backfill(settings, day(1), day(3), force=True)
    assert (plan.continues, left_alone(plan), list(planned(plan))) == (first, [1], [2, 3])


def test_backfill_that_lacks_only_its_summary_is_continued(settings: Settings, archive: Archive) -> None:
    first = run_backfill(archive, plan_backfill(settings, day(1), day(2)), ["SUCCEEDED", "SUCCEEDED"])
    close_backfill(archive, first, stopped=True)
    plan = plan_backfill(settings, day(1), day(2))
    assert (plan.continues, plan.days) == (first, ())
    second = start_backfill(archive, plan, {})
    assert count_outcomes(read_results(archive, second)) == {"SUCCEEDED": 2}


def test_backfill_stopped_by_a_failed_date_is_continued(settings: Settings, archive: Archive) -> None:
    first = run_backfill(archive, plan_backfill(settings, day(1), day(3), force=True), ["SUCCEEDED", "FAILED"])
    close_backfill(archive, first, message=Notification())
    plan = plan_backfill(settings, day(1), day(3), force=True)
    assert (plan.continues, list(planned(plan))) == (first, [2, 3])


def test_stopped_backfill_with_other_options_is_not_continued(
    settings: Settings, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced = run_backfill(archive, plan_backfill(settings, day(1), day(2), force=True), ["SUCCEEDED"])
    assert plan_backfill(settings, day(1), day(2)).continues is None
    assert plan_backfill(settings, day(1), day(3), force=True).continues is None
    assert plan_backfill(settings, day(1), day(2), force=True, first_stage="quality").continues is None
    assert plan_backfill(settings, day(1), day(2), force=True).continues == forced

    # Its dates were computed by other code, which is a reason to force them.
    monkeypatch.setattr(daybook.scheduling.backfills, "compute_fingerprint", lambda settings: {"notebooks": "changed"})
    plan = plan_backfill(settings, day(1), day(2), force=True)
    assert (plan.continues, len(plan.days)) == (None, 2)


def test_only_the_newest_equal_backfill_is_continued(settings: Settings, archive: Archive) -> None:
    plan = plan_backfill(settings, day(1), day(2), force=True)
    close_backfill(archive, run_backfill(archive, plan, ["SUCCEEDED"]), stopped=True)
    whole = run_backfill(archive, replace(plan_backfill(settings, day(1), day(2), force=True), days=()), [])
    close_backfill(archive, whole, message=Notification())
    for _ in range(10):
        # Number 10 is newer than number 9.
        close_backfill(archive, start_backfill(archive, replace(plan, days=()), {}), message=Notification())
    assert plan_backfill(settings, day(1), day(2), force=True).continues is None


# Records


def test_recorded_plan_has_request_and_runs(settings: Settings, archive: Archive) -> None:
    add_run(archive, 1, "SUCCEEDED")
    plan = plan_backfill(settings, day(1), day(2))
    name = start_backfill(archive, plan, {"env": "local", "parallel": 2})
    record = read_backfill(archive, name)
    assert name == "backfill-2025-11-01-2025-11-02-1"
    assert (record.state, record.env, record.parallel) == ("open", "local", 2)
    assert record.days == [PlannedDate(run_date=day(2), run_id="daily-2025-11-02-1")]
    assert record.left_alone == [day(1)]
    assert {key: getattr(record, key) for key in plan.request} == plan.request


def test_concurrent_starts_get_different_ids(archive: Archive) -> None:
    together = threading.Barrier(8, timeout=10)
    names: list[str] = []

    def start() -> None:
        together.wait()
        names.append(start_backfill(archive, build_plan(1, 2), {}))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names) == [f"backfill-2025-11-01-2025-11-02-{number}" for number in range(1, 9)]
    assert sorted(each.backfill_id for each in read_backfills(archive)) == sorted(names)


def test_backfills_are_listed_oldest_first(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(["2025-12-01T00:00:00.000Z", "2025-12-02T00:00:00.000Z", "2025-12-03T00:00:00.000Z"])
    monkeypatch.setattr(daybook.scheduling.backfills, "current_timestamp", lambda: next(moments))
    names = [start_backfill(archive, plan, {}) for plan in (build_plan(5), build_plan(1, kind="catch-up"), build_plan(3))]
    assert [each.backfill_id for each in read_backfills(archive)] == names


def test_closing_record_has_the_outcomes_of_the_dates(archive: Archive) -> None:
    name = run_backfill(archive, build_plan(1, 2, 3, 4, 5), ["SUCCEEDED", "SKIPPED", "REJECTED", "FAILED"])
    record = close_backfill(archive, name, message=Notification(subject="s", body="b"))
    assert read_backfill(archive, name).changed(days=[]) == record.changed(days=[])
    assert [(each.outcome, each.reason, each.seconds) for each in record.results] == [
        ("SUCCEEDED", "", 2.0),
        ("SKIPPED", "", 2.0),
        ("REJECTED", "daily-2025-11-03-1 came to REJECTED", 2.0),
        ("FAILED", "daily-2025-11-04-1 came to FAILED", 2.0),
        (NOT_STARTED, "", None),
    ]
    assert record.counts == {"SUCCEEDED": 1, "SKIPPED": 1, "REJECTED": 1, "FAILED": 1, NOT_STARTED: 1}
    assert (record.outcome, record.stopped, record.reasons) == ("FAILED", False, [])
    assert record.seconds >= 0


def test_closing_twice_keeps_the_first_record(archive: Archive) -> None:
    name = run_backfill(archive, build_plan(1), ["SUCCEEDED"])
    first = close_backfill(archive, name, message=Notification(subject="first"))
    again = close_backfill(archive, name, stopped=True)
    assert (again.message, again.outcome, again.stopped) == (first.message, "SUCCEEDED", False)


def test_concurrent_closes_return_the_same_record(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    name = run_backfill(archive, build_plan(1), ["SUCCEEDED"])
    create = archive.store.create

    def beaten(key: str, data: bytes) -> None:
        monkeypatch.undo()
        create(key, json.dumps({"backfill_id": name, "outcome": "SUCCEEDED", "message": {"subject": "the other's"}}).encode())
        create(key, data)

    monkeypatch.setattr(archive.store, "create", beaten)
    record = close_backfill(archive, name, message=Notification(subject="mine"))
    assert (record.state, record.message) == ("closed", Notification(subject="the other's"))


@pytest.mark.parametrize("closing", [{"stopped": True}, {"reasons": ["the summary failed"]}], ids=str)
def test_backfill_without_a_summary_has_failed(archive: Archive, closing: dict[str, Any]) -> None:
    record = close_backfill(archive, run_backfill(archive, build_plan(1), ["SUCCEEDED"]), **closing)
    assert (record.outcome, record.counts) == ("FAILED", {"SUCCEEDED": 1})
    assert {key: getattr(record, key) for key in closing} == closing


def test_history_is_written_once(archive: Archive) -> None:
    name = start_backfill(archive, build_plan(1), {})
    write_backfill_history(archive, name, b"1\n")
    write_backfill_history(archive, name, b"2\n")
    assert archive.store.read(f"backfills/{name}/history.jsonl") == b"1\n"


def test_unknown_backfill_is_named_in_the_error(archive: Archive) -> None:
    with pytest.raises(UsageError, match="There is no backfill backfill-2025-11-01-2025-11-02-1; `daybook backfills`"):
        read_backfill(archive, "backfill-2025-11-01-2025-11-02-1")


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("backfill-2025-11-01-2025-11-02-1", True),
        ("catch-up-2025-11-01-2025-11-02-12", True),
        ("daily-2025-11-01-1", False),
        ("backfill-2025-11-01-1", False),
        ("backfill-2025-11-01-2025-11-02-0", False),
        ("catch-up-20251201T020000000Z", False),
    ],
)
def test_backfill_ids_are_recognised(name: str, is_one: bool) -> None:
    assert is_backfill(name) is is_one


# Results


def test_date_with_an_active_run_is_running(settings: Settings, archive: Archive) -> None:
    name = start_backfill(archive, build_plan(1), {})
    with DateLocks(settings.archive, [day(1)]) as lock:
        archive.start_named_run("daily-2025-11-01-1", {"part_of": name})
        lock.write_holder("daily-2025-11-01-1")
        (result,) = read_results(archive, name)
    assert result.outcome == "RUNNING"
    assert overall_outcome([result]) == "FAILED"


def test_date_with_a_lost_run_has_failed(archive: Archive) -> None:
    name = start_backfill(archive, build_plan(1), {})
    archive.start_named_run("daily-2025-11-01-1", {"part_of": name})
    (result,) = read_results(archive, name)
    assert result.outcome == "FAILED"
    assert result.reason.startswith("lost: ")


def test_foreign_run_with_the_planned_id_is_not_counted(archive: Archive) -> None:
    name = start_backfill(archive, build_plan(1), {})
    add_run(archive, 1, "SUCCEEDED")
    assert [each.outcome for each in read_results(archive, name)] == [NOT_STARTED]
    add_run(archive, 1, "FAILED", part_of=name)
    add_run(archive, 1, "SUCCEEDED")
    assert [(each.run_id, each.outcome) for each in read_results(archive, name)] == [("daily-2025-11-01-2", "FAILED")]


def test_refused_date_has_its_reason(archive: Archive) -> None:
    name = start_backfill(archive, build_plan(1, 2), {})
    record_refusal(archive, name, day(1), "2025-11-01 is being run by somebody")
    assert [(each.outcome, each.reason) for each in read_results(archive, name)] == [
        (NOT_STARTED, "2025-11-01 is being run by somebody"),
        (NOT_STARTED, ""),
    ]


def test_backfill_owns_its_runs_until_its_summary(archive: Archive) -> None:
    name = start_backfill(archive, build_plan(1), {})
    assert is_planned(archive, name, "daily-2025-11-01-1")
    assert not is_planned(archive, name, "daily-2025-11-02-1")
    assert not is_planned(archive, "backfill-2025-01-01-2025-01-01-9", "daily-2025-11-01-1")
    assert not is_planned(archive, f"../backfills/{name}", "daily-2025-11-01-1")
    close_backfill(archive, name)
    assert not is_planned(archive, name, "daily-2025-11-01-1")


def test_only_the_first_line_of_a_reason_is_kept(archive: Archive) -> None:
    name = start_backfill(archive, build_plan(1), {})
    archive.start_named_run("daily-2025-11-01-1", {"part_of": name})
    write_run_record(archive, "daily-2025-11-01-1", "FAILED", reasons=["first\nsecond", "third"])
    assert read_results(archive, name)[0].reason == "first"


@pytest.mark.parametrize(
    ("outcomes", "whole"),
    [
        ([], "SUCCEEDED"),
        (["SUCCEEDED", "SKIPPED"], "SUCCEEDED"),
        (["SKIPPED"], "SUCCEEDED"),
        (["SUCCEEDED", "REJECTED"], "REJECTED"),
        (["REJECTED", "FAILED", "SUCCEEDED"], "FAILED"),
        (["SUCCEEDED", NOT_STARTED], "FAILED"),
    ],
    ids=str,
)
def test_outcome_of_a_backfill_is_its_worst_date(outcomes: list[str], whole: str) -> None:
    assert overall_outcome(DateOutcome(run_date=day(1), run_id="", outcome=each) for each in outcomes) == whole
