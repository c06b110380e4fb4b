"""Test the questions, errors and lists of ``daybook backfill``, ``catch-up`` and ``backfills``, without runs."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daybook.cli.runs import install_signal_handlers
from daybook.records.archive import Archive
from daybook.records.models import Notification
from daybook.scheduling.backfills import close_backfill, record_refusal, start_backfill
from daybook.settings import load_settings
from tests.cli.conftest import Call
from tests.range_records import add_range
from tests.scheduling.backfilling import add_run, build_plan, day, run_backfill

DAYS = ("2025-11-01", "2025-11-05")


@pytest.fixture
def archive(home: Path) -> Archive:
    settings = load_settings("local")
    landing = Path(settings.landing)
    landing.mkdir(parents=True)
    (landing / "a.csv").write_text("a\n")
    return Archive(settings.archive)


MISTAKES = [
    (("backfill", "2025-11-05", "2025-11-01"), "The last date 2025-11-01 is before the first, 2025-11-05"),
    (("backfill", "2025-11-01", "2025-11-31"), "'2025-11-31' is not a business date"),
    (("backfill", "2022-01-01", "2025-11-01"), "are 1,401 dates; one backfill takes up to 1,000, so give it in parts."),
    (
        ("backfill", *DAYS, "--stages", "aggregate"),
        "--stages aggregate: give the stage to begin at and two dots, one of ingest..",
    ),
    (("backfill", *DAYS, "--stages", "notify.."), "--stages notify..: give the stage to begin at"),
    (("backfill", *DAYS, "--stages", "aggregate..quality"), "--stages aggregate..quality: give the stage"),
    (("backfill", *DAYS, "--chunk", "year"), "--chunk year: give day, week, month, or a number of dates such as 10."),
    (("backfill", *DAYS, "--parallel", "0"), "Invalid value for '--parallel'"),
    (("backfill", DAYS[0]), "Missing argument 'LAST'"),
    (("catch-up", "--limit", "0"), "Invalid value for '--limit'"),
    (("show", "backfill-2025-11-01-2025-11-05-1"), "There is no backfill backfill-2025-11-01-2025-11-05-1"),
]


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES, ids=lambda value: " ".join(value) if len(value) < 9 else "")
def test_mistake_is_one_sentence_and_starts_nothing(
    archive: Archive, call: Call, arguments: tuple[str, ...], sentence: str
) -> None:
    code, out, err = call(*arguments, answer="y")
    assert (code, sentence in err, len(err.strip().splitlines())) == (2, True, 1), out + err
    assert archive.store.keys() == []


def test_plan_is_shown_and_needs_confirmation(archive: Archive, call: Call) -> None:
    add_run(archive, 1, "SUCCEEDED")
    before = archive.store.keys()
    code, out, _ = call("backfill", *DAYS, answer="n")
    assert code == 1
    assert "2025-11-01 to 2025-11-05: 5 dates: 4 to run; 1 omitted (already successful; --force runs them again)." in out
    assert "  2025-11: 02 03 04 05" in out
    assert archive.store.keys() == before


def test_each_month_of_the_plan_has_a_line(archive: Archive, call: Call) -> None:
    _, out, _ = call("backfill", "2025-11-29", "2025-12-02", answer="n")
    assert "  2025-11: 29 30\n  2025-12: 01 02\n" in out


def test_plan_has_ranges_jobs_time_memory_and_cost(archive: Archive, call: Call) -> None:
    arguments = ("backfill", "2025-11-29", "2025-12-02", "--parallel", "2")
    code, out, _ = call(*arguments, answer="n")
    assert code == 1
    assert out.endswith(
        "  2025-11-29 to 2025-11-30: 2 dates, 0.0 MB\n"
        "  2025-12-01 to 2025-12-02: 2 dates, 0.0 MB\n"
        "Expected: 2 ranges, 12 jobs; no run is on record that says how long; at least 0.0067 USD on AWS (0.0135 with the 24 "
        "jobs of a run for each date).\n"
    )
    add_range(archive, day(1), day(4))
    _, out, _ = call(*arguments, answer="n")
    assert out.splitlines()[-1].startswith("Expected: 2 ranges, 12 jobs; about 30 s; 0.0067 USD on AWS")


def test_plan_by_day_has_runs_of_one_date(archive: Archive, call: Call) -> None:
    _, out, _ = call("backfill", "2025-11-01", "2025-11-30", "--chunk", "day", "--parallel", "2", answer="n")
    assert "  2025-11-24: 1 date, 0.0 MB\n  and 6 more ranges\n" in out


@pytest.mark.parametrize(
    "chunk, question",
    [
        ("month", "Run 5 dates in 1 range, 1 at a time?"),
        ("2", "Run 5 dates in 3 ranges, 2 at a time?"),
        ("day", "Run 5 dates, 2 at a time?"),
    ],
)
def test_question_names_dates_and_ranges(
    archive: Archive, call: Call, monkeypatch: pytest.MonkeyPatch, chunk: str, question: str
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("daybook.cli.backfills.require_confirmation", lambda text, *_, **__: asked.append(text) or sys.exit(1))
    call("backfill", *DAYS, "--chunk", chunk, "--parallel", "2")
    assert asked == [question]


def test_nothing_is_asked_if_all_dates_are_done(archive: Archive, call: Call) -> None:
    add_run(archive, 1, "SUCCEEDED")
    code, out, _ = call("backfill", DAYS[0], DAYS[0], answer="n")
    assert (code, "1 date: 0 to run; 1 omitted" in out) == (0, True)
    assert call("backfill", DAYS[0], DAYS[0], "--json") == (0, "null\n", "")
    assert archive.store.list_folders("backfills") == []


def test_plan_names_the_backfill_that_it_continues(archive: Archive, call: Call) -> None:
    settings = load_settings("local")
    from daybook.scheduling.backfills import plan_backfill

    name = run_backfill(archive, plan_backfill(settings, day(1), day(5), force=True), ["SUCCEEDED"])
    close_backfill(archive, name, stopped=True)
    _, out, _ = call("backfill", *DAYS, "--force", answer="n")
    assert "4 to run; 1 omitted" in out
    assert f"Continues {name}, which did not end." in out


def test_plan_counts_dates_that_never_reached_the_stage(archive: Archive, call: Call) -> None:
    add_run(archive, 1, "SUCCEEDED")
    add_run(archive, 2, "REJECTED")
    _, out, _ = call("backfill", *DAYS, "--stages", "aggregate..", answer="n")
    assert "5 dates, from aggregate on: 1 to run; 4 omitted, because their newest run did not reach aggregate" in out


def test_catch_up_without_gaps_succeeds(archive: Archive, call: Call) -> None:
    add_run(archive, 1, "SUCCEEDED")
    code, out, _ = call("catch-up", "--since", DAYS[0], "--until", DAYS[0])
    assert (code, out) == (0, "0 gaps, none to run.\n")


def test_catch_up_shows_its_dates_and_asks(archive: Archive, call: Call) -> None:
    code, out, _ = call("catch-up", "--since", DAYS[0], "--until", DAYS[1], "--limit", "2", answer="n")
    assert code == 1
    assert out.startswith("5 gaps from 2025-11-01 to 2025-11-05; 2 to run:\n  2025-11: 01 02\n")
    assert "  2025-11-01 to 2025-11-02: 2 dates, 0.0 MB\nExpected: 1 range, 6 jobs" in out
    assert archive.store.keys() == []


def test_backfills_are_listed_newest_first_with_outcomes(archive: Archive, call: Call) -> None:
    assert call("backfills") == (0, "There are no backfills yet; `daybook backfill FIRST LAST` makes one.\n", "")
    closed = run_backfill(archive, build_plan(1, 2), ["SUCCEEDED", "REJECTED"])
    close_backfill(archive, closed, message=Notification())
    under_way = run_backfill(archive, build_plan(3, 4), ["SUCCEEDED"])
    code, out, _ = call("backfills")
    heading, first, second = (line.split() for line in out.splitlines())
    assert (code, heading[0]) == (0, "backfill")
    assert (first[0], first[3:]) == (under_way, ["LOST", "1", "succeeded,", "1", "not", "started"])
    assert (second[0], second[3:]) == (closed, ["REJECTED", "1", "succeeded,", "1", "rejected"])
    assert [each["state"] for each in json.loads(call("backfills", "--json")[1])] == ["open", "closed"]


def test_open_backfill_is_shown_by_its_dates(archive: Archive, call: Call) -> None:
    name = start_backfill(archive, build_plan(1, 2), {})
    record_refusal(archive, name, day(2), "it is [held] by somebody")
    code, out, _ = call("show", name)
    assert (code, out.splitlines()[-1]) == (0, f"{name} has not ended: LOST")
    assert "not started" in out
    assert "it is [held] by somebody" in out
    close_backfill(archive, name, reasons=["there is no summary: the lake is gone"])
    _, out, _ = call("show", name)
    assert out.splitlines()[-2:][0] == "  there is no summary: the lake is gone"
    assert out.splitlines()[-1].endswith(": 2 not started.")


@pytest.fixture
def signals() -> Iterator[None]:
    """Restore the signal handlers after the test."""
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {name: signal.getsignal(name) for name in names}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_third_signal_exits_while_the_first_stops_the_run(signals: None, capfd: pytest.CaptureFixture[str], name: str) -> None:
    install_signal_handlers()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(getattr(signal, name))
    signal.raise_signal(signal.SIGINT)
    assert capfd.readouterr().err.startswith("Stopping: what is under way is being put on record.")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(getattr(signal, name))
