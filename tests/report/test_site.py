"""Test the site: an index with a calendar of business dates, a page per run and a page per backfill."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from daybook.errors import ArchiveError
from daybook.records.models import BackfillRecord, RunRecord
from daybook.report import site
from daybook.report.site import NEWEST_RUNS_SHOWN, build_site
from daybook.sources import Calendar
from tests.sample_records import attempt_record, rollback_record, run_record

RAW_READ = {
    "at": "2018-05-06T06:00:01Z",
    "by": "ada",
    "stage": "ingest",
    "cell": 4,
    "reason": "check an id",
    "tables": ["bronze.orders"],
    "columns": ["customer_id", "city"],
}
NOW = datetime(2026, 11, 23, 15, tzinfo=timezone.utc)


def build_of(runs, *, out, hrefs, title="A shop", calendar=None, backfills=()):
    """Build a site of run records that hold their histories. By default no date after the last run is due."""
    if calendar is None and runs:
        calendar = {"last": max(run.run_date for run in runs)}
    histories = {run.run_id: getattr(run, "history", None) or [] for run in runs}
    bare = [RunRecord.model_validate({**run.to_json(), "history": None}) for run in runs]
    return build_site(
        bare,
        out=out,
        history_of=histories.__getitem__,
        archive_href=hrefs,
        title=title,
        now=NOW,
        calendar=Calendar.model_validate(calendar or {}),
        backfills=[BackfillRecord.model_validate(each) for each in backfills],
    )


@pytest.fixture()
def build(tmp_path, hrefs, read_page):
    """Build a site; return its index page and a function that reads a run's page."""

    def build(*runs, **named):
        index = build_of(runs, out=tmp_path / "site", hrefs=hrefs, **named)

        def page_of(run):
            return read_page((tmp_path / "site" / "runs" / f"{run.run_id}.html").read_text(encoding="utf-8"))

        return read_page(index.read_text(encoding="utf-8")), page_of

    return build


def test_index_starts_with_latest_successful_day(build, run):
    summary = {**run().summary, "orders": 1312, "net_revenue": "12345.6700", "average_order_value": "41.0050"}
    index, _ = build(run("2018-05-04"), run("2018-05-05", summary=summary), run("2018-05-06", outcome="FAILED"))
    assert "Latest successful day: Saturday, 5 May 2018 Net revenue 12,345.67 EUR" in index.text
    assert "Orders 1,312 Cancelled orders 9" in index.text
    assert "Average order value 41.01 EUR" in index.text
    assert "2018-05-04 to 2018-05-05" in index.text


def test_pages_show_the_figures_of_the_notebook(build, run, attempt):
    figures = {"berths": None, "fees": "1234.5000", "ships": 1312, "tons_shipped": 0.25}
    stages = [attempt("quality"), attempt("notify", details={"figures": ["ships", "fees"]})]
    record = run(summary=figures, stages=stages)
    index, page_of = build(record)
    for page in (index, page_of(record)):
        assert "Ships 1,312 Fees 1,234.50 EUR Berths – Tons shipped 0.25" in page.text
    assert "Net revenue" not in index.text
    assert "sparkline" not in index.values("class")


def test_headline_may_be_a_count(build, run, monkeypatch):
    monkeypatch.setattr(site, "headline_figure", lambda: "ships")
    index, _ = build(run("2018-05-04", summary={"ships": 900}), run("2018-05-05", summary={"ships": 1312, "fees": "1.00"}))
    assert "Ships 1,312 2018-05-04 to 2018-05-05 · low 900 · high 1,312 Fees 1.00 EUR" in index.text


def test_calendar_day_has_symbol_and_newest_run(build, run):
    index, _ = build(run("2018-05-01"), run("2018-05-01", number=2, outcome="REJECTED"), run("2018-05-03"))
    days = [href for _, name, href in index.attributes if name == "href" and href.startswith("runs/daily-2018-05-01")]
    assert days[0] == "runs/daily-2018-05-01-2.html"
    assert "2018-05-01: REJECTED" in index.values("title")
    assert "2018-05-02: no run for this date" in index.values("title")
    symbols = index.values("href", "use")
    assert symbols.count("#i-rejected") >= 2  # the day, the legend
    assert symbols.count("#i-never-ran") == 2


def test_legend_counts_every_outcome(build, run):
    index, _ = build(
        run("2018-05-01"), run("2018-05-04", outcome="SKIPPED"), run("2018-05-05", state="running", outcome="RUNNING")
    )
    assert "1 SUCCEEDED published 1 SKIPPED nothing to do 0 REJECTED" in index.text
    assert "1 RUNNING in progress when this page was generated 2 NEVER RAN no run for this date" in index.text


def test_rolled_back_day_is_shown_with_its_reason(build, run):
    taken_back = run("2018-05-05")
    taken_back.rolled_back = rollback_record(taken_back.run_id, restored_dates=["2018-05-03"])
    index, page_of = build(run("2018-05-04"), taken_back)
    assert "Latest successful day: Friday, 4 May 2018" in index.text
    assert "2018-05-05: ROLLED BACK" in index.values("title")
    assert "1 ROLLED BACK published, then taken back" in index.text
    page = page_of(taken_back)
    assert "Rolled back by a steward wrong prices 2025-12-24 08:00:00 UTC Restored dates 2018-05-03" in page.text
    assert "The day Orders" not in page.text


def test_newest_runs_are_listed_first(build, run):
    index, _ = build(run("2018-05-05"), run("2018-05-04", number=2))
    listed = index.text.split("Retries")[1]
    assert listed.index("daily-2018-05-04-2") < listed.index("daily-2018-05-05-1")
    assert "1 min 05 s 2,468 → 2,428 32 1.3 % 0" in listed


def test_index_lists_at_most_the_newest_runs(build, run):
    runs = [run(run_id=f"daily-2018-05-05-{number}", history=None) for number in range(1, NEWEST_RUNS_SHOWN + 4)]
    index, page_of = build(*runs)
    assert index.tags.count("tr") < NEWEST_RUNS_SHOWN + 20
    assert f"The newest {NEWEST_RUNS_SHOWN} of 203 runs." in index.text
    assert "Stages" in page_of(runs[0]).text


def test_empty_site_names_the_command_to_start_a_run(build):
    index, _ = build()
    assert "No run has been recorded yet. Start one with daybook run." in index.text


def test_run_page_links_files_of_every_attempt(build, run, attempt, failure):
    failed = [attempt(attempt=number, outcome="FAILED", failure=failure()) for number in (1, 2)]
    dead = attempt(attempt=3, outcome="FAILED", failure=failure(cell=None), notebook=None, html=None)
    record = run(stages=[attempt("ingest"), *failed, dead, attempt(attempt=4)])
    _, page_of = build(record)
    links = page_of(record).values("href", "a")
    names = ["1_ingest.attempt-1", *(f"3_transform.attempt-{number}" for number in (1, 2, 4))]
    expected = {f"{name}.{ending}" for name in names for ending in ("html", "ipynb", "json")}
    expected |= {"3_transform.attempt-3.json", "run.json", "history.jsonl"}
    prefix = f"../../archive/{record.run_id}/"
    assert {link[len(prefix) :] for link in links if link.startswith(prefix)} == expected


def test_failed_run_shows_failure_and_links_notebook(build, run, attempt, failure):
    record = run(outcome="FAILED", stages=[attempt("ingest"), attempt(outcome="FAILED", failure=failure())])
    _, page_of = build(record)
    page = page_of(record)
    assert "transform failed in cell 3 LandingError: orders.csv ends in the middle of line 312." in page.text
    assert "orders = landing.read('orders')" in page.text
    assert "The day" not in page.text
    assert page.values("href", "a").count("../../archive/daily-2018-05-05-1/3_transform.attempt-1.html") == 2


def test_failed_run_links_to_the_failed_cell(build, run, attempt, failure):
    record = run(outcome="FAILED", stages=[attempt(outcome="FAILED", failure=failure(index=7))])
    _, page_of = build(record)
    links = page_of(record).values("href", "a")
    assert "../../archive/daily-2018-05-05-1/3_transform.attempt-1.html#cell-7" in links


def test_run_page_shows_tables_inputs_code_and_timeline(build, run):
    record = run()
    _, page_of = build(record)
    text = page_of(record).text
    for piece in (
        *("bronze.orders – → 3 transform ingest", "silver.orders 3 → 4 transform transform", "orders.csv 84 kB"),
        *("Commit 1a2b3c4d", "Lock file abababababab", "Python 3.11.7", "State machine daily.asl.json"),
        *("Ingest Task 2026-11-23 15:00:00 55.0 s", "Net revenue", "Cancelled orders 9", "Adjustments amount -25.00"),
    ):
        assert piece in text


def test_run_page_links_adjacent_dates_and_other_runs(build, run):
    before, first, second, after = run("2018-05-03"), run(), run(number=2, outcome="FAILED"), run("2018-05-09")
    _, page_of = build(before, first, second, after)
    links = page_of(first).values("href", "a")
    assert "daily-2018-05-03-1.html" in links
    assert "daily-2018-05-09-1.html" in links
    assert "Other runs of this date: daily-2018-05-05-2 FAILED" in page_of(first).text
    assert "prev" not in page_of(before).values("rel")
    assert "next" not in page_of(after).values("rel")


def test_run_page_shows_gate_findings_and_restated_dates(build, run, attempt):
    figures = {"orders": 12, "gross_revenue": "100.0000", "returns_amount": "0.0000", "net_revenue": "100.0000"}
    restated = {"order_date": "2018-05-04", "before": figures, "after": {**figures, "orders": 11, "net_revenue": "1090.5000"}}
    rule = {
        "table": "orders",
        "rule": "status is known",
        "severity": "error",
        "checked": 40,
        "failing": 2,
        "share": 0.05,
        "samples": ["orders.csv:3", "orders.csv:9"],
        "outcome": "quarantined",
    }
    odd = {
        "table": "payments",
        "rule": "payments fit",
        "severity": "warning",
        "failing": 1,
        "measured": "17.56, must be less than 15",
    }
    accounting = {
        "orders": {"landed": 1043, "accepted": 1040, "quarantined": 2, "duplicates": 1},
        "payments": {"landed": 5, "accepted": 4, "quarantined": 0, "duplicates": 0},
    }
    record = run(
        approval={"of": "daily-2018-05-05-1", "by": "Ada", "why": "a holiday", "waived": ["net revenue is unusual"]},
        stages=[
            attempt("ingest", details={"raw_reads": [RAW_READ]}),
            attempt("validate", details={"rules_checked": 31, "rules": [odd, rule], "accounting": accounting}),
            attempt("aggregate", details={"held_dates": ["2018-05-01"]}),
            attempt("quality", details={"restated": [restated], "left_to_newer": ["2018-05-02"]}, redactions={"email": 3}),
            attempt("notify", notebook=None, html=None, withheld="RuntimeError"),
        ],
    )
    _, page_of = build(record)
    page = page_of(record)
    page.assert_inert()
    for piece in (
        "Approved by Ada a holiday Publishes the data for which daily-2018-05-05-1 was rejected. net revenue is unusual",
        "2018-05-04 12 → 11 100.00 EUR 0.00 EUR 100.00 → 1,090.50 EUR",
        "Left out, because another date that changes them is on hold: 2018-05-01.",
        "Not changed, because a newer run has published them: 2018-05-02.",
        "Validate: 31 checked, 2 broken.",
        "bronze.orders customer_id, city ada 2018-05-06 06:00:01 ingest 4 check an id",
        "validate payments payments fit warning – 17.56, must be less than 15",
        "validate orders status is known error 40 2 5.0 % quarantined orders.csv:3 · orders.csv:9",
        "orders 1,043 = 1,040 + 2 + 1 payments 5 ≠ 4 + 0 + 0 all 1,048 ≠ 1,044 + 2 + 1",
        "Redacted before this run was archived: email 3.",
        "The notebook is withheld: it could not be searched for personal data (RuntimeError).",
    ):
        assert piece in page.text, piece
    assert "6_notify.attempt-1.html" not in " ".join(page.values("href", "a"))


def test_run_page_shows_lineage_and_its_errors(build, run, attempt):
    lineage = {"silver.orders": {"rows": {}, "columns": {"status": {"bronze.orders.status": ["IDENTITY"]}}}}
    record = run(lineage=lineage, stages=[attempt("aggregate", details={"lineage_gaps": ["The query of x is odd."]})])
    _, page_of = build(record)
    assert "Lineage The tables that each table is computed from" in page_of(record).text
    assert "The query of x is odd." in page_of(record).text
    early = run(outcome="FAILED", lineage={})
    _, page_of = build(early)
    assert "Lineage" not in page_of(early).text


def test_unfinished_run_has_a_page(build, attempt):
    record = run_record("daily-2018-05-05-1", "RUNNING", state="running", stages=[attempt("ingest")])
    empty = run_record("daily-2018-05-06-1", "RUNNING", state="running", stages=[])
    index, page_of = build(record, empty)
    assert "No business date has succeeded yet." in index.text
    assert "Saturday, 5 May 2018 RUNNING" in page_of(record).text
    assert "../../archive/daily-2018-05-05-1/run.json" not in page_of(record).values("href", "a")
    assert "No stage has a record yet." in page_of(empty).text


def test_record_values_are_escaped(build, run, attempt, failure):
    script = "<script>alert(1)</script>"
    record = run(
        outcome="FAILED",
        reasons=[script],
        source=script,
        engine=script,
        currency=script,
        stages=[attempt("ingest", engine=script, outcome="FAILED", failure=failure(message=script, source=script))],
    )
    index, page_of = build(record, title=script)
    for page in (index, page_of(record)):
        page.assert_inert()
        assert script in page.text


def test_pages_fetch_nothing(build, run):
    record = run()
    index, page_of = build(record)
    for page in (index, page_of(record)):
        page.assert_inert()
        assert "default-src 'none'" in page.values("content", "meta")[0]


def test_order_of_runs_does_not_change_the_site(tmp_path, run, hrefs):
    runs = [run("2018-05-03"), run("2018-05-05", outcome="REJECTED"), run("2018-05-05", number=2)]
    sites = []
    for name, given in (("one", runs), ("two", runs[::-1])):
        build_of(given, out=tmp_path / name, hrefs=hrefs)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        sites.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files})
    assert sites[0] == sites[1]
    assert len(sites[0]) == 4  # No temporary file is left.


def test_invalid_record_leaves_old_site_unchanged(tmp_path, run, hrefs):
    out = tmp_path / "site"
    index = build_of([run()], out=out, hrefs=hrefs)
    before = index.read_bytes()
    with pytest.raises(ArchiveError, match="run_id"):
        build_of([run(), run(run_id="../escape")], out=out, hrefs=hrefs)
    assert index.read_bytes() == before
    assert not (tmp_path / "escape.html").exists()


def test_run_page_names_its_backfill(build, run):
    record = run("2018-05-05", part_of="backfill-2018-05-01-2018-05-31-1")
    _, page_of = build(record, run("2018-05-04"))
    assert "Part of backfill-2018-05-01-2018-05-31-1" in page_of(record).text
    assert "Part of" not in page_of(run("2018-05-04")).text


BACKFILL = {
    "backfill_id": "backfill-2018-05-04-2018-05-05-1",
    "first": "2018-05-04",
    "last": "2018-05-05",
    "started_at": "2026-11-23T14:00:00.000Z",
    "seconds": 130.0,
    "outcome": "FAILED",
    "reasons": [],
    "counts": {"SUCCEEDED": 1, "NOT STARTED": 1},
    "results": [
        {"run_date": "2018-05-04", "run_id": "daily-2018-05-04-1", "outcome": "SUCCEEDED", "reason": "", "seconds": 65.2},
        {"run_date": "2018-05-05", "run_id": "daily-2018-05-05-1", "outcome": "NOT STARTED", "reason": "", "seconds": None},
    ],
    "unusual_days": [{"run_date": "2018-05-04", "severity": "warning", "warning": "net revenue is below the usual"}],
}


def test_run_page_and_index_link_the_backfill_page(build, run, tmp_path, read_page):
    record = run("2018-05-04", part_of=BACKFILL["backfill_id"])
    index, page_of = build(record, backfills=[BACKFILL])
    link = f"backfills/{BACKFILL['backfill_id']}.html"
    assert f"../{link}" in page_of(record).values("href", "a")
    assert link in index.values("href", "a")
    page = read_page((tmp_path / "site" / link).read_text(encoding="utf-8"))
    page.assert_inert()
    assert "Dates 2018-05-04 to 2018-05-05 Results 1 succeeded, 1 not started" in page.text
    assert "2018-05-04 daily-2018-05-04-1 SUCCEEDED 1 min 05 s" in page.text
    assert "2018-05-05 daily-2018-05-05-1 not started" in page.text
    assert "../runs/daily-2018-05-04-1.html" in page.values("href", "a")
    assert "../runs/daily-2018-05-05-1.html" not in page.values("href", "a")


def test_unusual_day_of_a_backfill_is_on_its_run_page(build, run, attempt):
    stages = [attempt("quality", details={"rules_checked": 30, "rules": []})]
    days = [run(f"2018-05-0{number}", part_of=BACKFILL["backfill_id"], stages=stages) for number in (4, 5)]
    _, page_of = build(*days, backfills=[BACKFILL])
    assert f"warning net revenue is below the usual {BACKFILL['backfill_id']}" in page_of(days[0]).text
    assert "Quality: 30 checked, 1 broken (1 found at the end of the backfill)." in page_of(days[0]).text
    assert "Unusual" not in page_of(days[1]).text
    assert "Quality: 30 checked, none broken." in page_of(days[1]).text


def test_page_is_rebuilt_when_its_backfill_ends(made, run):
    record = run("2018-05-04", part_of=BACKFILL["backfill_id"])
    under_way = {**BACKFILL, "outcome": None, "unusual_days": []}
    assert made(record, run("2018-05-05"), backfills=[under_way]) == ["daily-2018-05-04-1", "daily-2018-05-05-1"]
    assert made(record, run("2018-05-05"), backfills=[under_way]) == []
    assert made(record, run("2018-05-05"), backfills=[BACKFILL]) == ["daily-2018-05-04-1"]


def test_run_that_published_nothing_shows_no_figures(build, run, attempt):
    kept = {"summary": run().summary, "stages": [attempt("ingest")]}
    good, failed = run(), run(number=2, outcome="FAILED", **kept)
    first = run("2018-05-06", outcome="REJECTED", **kept)
    _, page_of = build(good, failed, first)
    assert "This run published nothing; readers see the figures that daily-2018-05-05-1 published." in page_of(failed).text
    assert "This run published nothing; no earlier run of its date did." in page_of(first).text
    for each in (failed, first):
        assert "Net revenue" not in page_of(each).text
    assert "Net revenue" in page_of(good).text
    assert "This run published" not in page_of(good).text


def test_run_that_failed_after_publishing_shows_figures(build, run, attempt, failure):
    stages = [attempt("quality"), attempt("notify", outcome="FAILED", failure=failure())]
    record = run(outcome="FAILED", stages=stages, summary=run().summary)
    _, page_of = build(record)
    assert "Net revenue" in page_of(record).text
    assert "This run published" not in page_of(record).text


def test_closed_dates_are_not_gaps(build, run):
    calendar = {"last": "2018-05-07", "closed_weekdays": ["Saturday"]}
    index, _ = build(run("2018-05-04"), run("2018-05-07"), calendar=calendar)
    assert "1 NEVER RAN no run for this date 1 CLOSED" in index.text
    assert "1 date never ran 2018-05-06" in index.text
    assert "2018-05-05: no run expected by the source's calendar" in index.values("title")


def test_calendar_dates_outside_of_the_runs_are_gaps(build, run):
    index, _ = build(run("2018-05-04"), calendar={"first": "2017-01-01", "last": "2018-05-06"})
    assert "490 dates never ran 2017-01-01 to 2018-05-03 (488 dates) 2018-05-05 to 2018-05-06 (2 dates)" in index.text
    # Months without a run are in the list only.
    assert (index.text.count("April"), index.text.count("May")) == (0, 1 + index.text.count("May 2018"))
    assert "2017 No run in this year: 365 business dates never ran." in index.text


def test_site_without_runs_lists_dates_that_never_ran(build):
    index, _ = build(calendar={"first": "2018-05-01", "last": "2018-05-06"})
    assert "6 dates never ran 2018-05-01 to 2018-05-06 (6 dates)" in index.text
    assert "No run has been recorded yet." in index.text


# Rebuilding an existing site


@pytest.fixture()
def made(tmp_path, hrefs):
    """Return a function that builds a site in one folder and returns the names of the pages that it wrote."""

    def made(*runs, **changes):
        folder = tmp_path / "site" / "runs"
        before = {path: path.stat().st_ino for path in folder.glob("*.html")} if folder.exists() else {}
        build_of(runs, out=tmp_path / "site", **{"hrefs": hrefs, **changes})
        return sorted(path.stem for path in folder.glob("*.html") if before.get(path) != path.stat().st_ino)

    return made


def test_only_pages_affected_by_new_runs_are_written(made, run):
    days = [run(f"2018-05-0{number}") for number in (1, 2, 3, 4)]
    assert made(*days[:2]) == ["daily-2018-05-01-1", "daily-2018-05-02-1"]
    assert made(*days[:2]) == []
    # The page of the day before links the new one.
    assert made(*days[:3]) == ["daily-2018-05-02-1", "daily-2018-05-03-1"]
    assert made(days[0], days[1], days[3], days[2]) == ["daily-2018-05-03-1", "daily-2018-05-04-1"]


def test_page_is_rebuilt_when_something_on_it_changes(made, run):
    days = [run(f"2018-05-0{number}") for number in (1, 2, 3)]
    again = run("2018-05-02", number=2)
    assert len(made(*days)) == 3
    # Its page, the page of the date's other run, and the pages of the adjacent dates, which link the newest run.
    assert made(*days, again) == ["daily-2018-05-01-1", "daily-2018-05-02-1", "daily-2018-05-02-2", "daily-2018-05-03-1"]
    assert made(*days, again.changed(outcome="REJECTED", summary=None)) == ["daily-2018-05-02-1", "daily-2018-05-02-2"]
    assert len(made(*days, again, title="Another shop")) == 4
    assert len(made(*days, again, hrefs=lambda run_id, file: f"s3://elsewhere/{run_id}/{file}")) == 4


def test_page_of_a_running_run_is_rebuilt_every_time(made, run):
    under_way = run("2018-05-02", state="running", outcome="RUNNING")
    assert made(run("2018-05-01"), under_way) == ["daily-2018-05-01-1", "daily-2018-05-02-1"]
    assert made(run("2018-05-01"), under_way) == ["daily-2018-05-02-1"]


def test_pages_are_rebuilt_when_the_code_changes(made, run, monkeypatch):
    assert made(run()) == ["daily-2018-05-05-1"]
    assert made(run()) == []
    monkeypatch.setattr(site, "_compute_code_digest", lambda: "other")
    assert made(run()) == ["daily-2018-05-05-1"]


def test_page_without_a_digest_is_rebuilt(made, run, tmp_path):
    made(run())
    (tmp_path / "site" / "runs" / "daily-2018-05-05-1.html").write_text("<!DOCTYPE html>", encoding="utf-8")
    assert made(run()) == ["daily-2018-05-05-1"]


def test_run_page_shows_cost_and_what_is_not_counted(build, run):
    from daybook.records.cost import ExecutionUsage, JobUsage, calculate_cost, load_prices

    jobs = [JobUsage("ingest", 1, 95), JobUsage("ingest", 2, 30), JobUsage("notify", 1, 61, under_way=True)]
    measured = run(
        "2018-05-05",
        cost=calculate_cost(
            ExecutionUsage(jobs, 27, "arn"), [attempt_record(requests={"reads": 1200})], load_prices("us-east-1")
        ),
    )
    estimated = run("2018-05-06", cost=calculate_cost(ExecutionUsage(jobs[:1], 13), [], load_prices("us-east-1")))
    _, page_of = build(measured, estimated, run("2018-05-07"), run("2018-05-08", cost=None))
    text = page_of(measured).text
    assert "Cost 0.00280 USD" in text
    assert (
        "Cost of this run on AWS, at the prices of us-east-1 as of 2026-06-30. Not counted: requests to S3 of delta-rs" in text
    )
    assert "ingest 95 s × 0.0625 DPU 0.00073 USD ingest attempt 2 60 s × 0.0625 DPU 0.00046 USD" in text
    assert "notify 61 s × 0.0625 DPU so far" in text
    assert "State transitions 27 0.00068 USD S3 write requests 0 0.00000 USD S3 read requests 1,200 0.00048 USD" in text
    text = page_of(estimated).text
    assert "Cost, estimated 0.00105 USD" in text
    assert "Estimated cost of this run on AWS if it took as long there" in text
    assert "requests to S3" in text and "S3 read requests" not in text
    for each in (run("2018-05-07"), run("2018-05-08")):
        assert "Cost" not in page_of(each).text
