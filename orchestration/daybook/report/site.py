"""Write the site of all runs: ``index.html`` with the calendar, a page for each run and each backfill."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections import Counter
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Sequence

from daybook.contracts.canonical import headline_figure
from daybook.records.models import BackfillRecord, RecordModel, RunRecord
from daybook.report import days, findings, formats, records
from daybook.report.lineage import render_lineage
from daybook.report.pages import render_page
from daybook.report.timeline import build_timeline
from daybook.scheduling.due import group_dates, list_date_states, list_never_ran
from daybook.scheduling.freshness import describe_published_figures, describe_rollback, is_published
from daybook.sources import Calendar
from daybook.storage import wrap_write_errors

NEWEST_RUNS_SHOWN = 200
_DAILY_CALENDAR = Calendar()
_INPUT_DIGEST = re.compile('<meta name="made-from" content="([0-9a-f]{64})">')
_HEAD_BYTES = 1024
"""Number of characters at the start of a page that contain its digest."""


def build_site(
    runs: Sequence[RunRecord],
    *,
    out: Path,
    history_of: Callable[[str], Sequence[Mapping[str, Any]]],
    archive_href: Callable[[str, str], str],
    title: str,
    now: datetime,
    calendar: Calendar = _DAILY_CALENDAR,
    backfills: Sequence[BackfillRecord] = (),
    ranges: Sequence[RunRecord] = (),
) -> Path:
    """Write ``out/index.html``, a page for every run in ``out/runs/`` and one for every backfill in ``out/backfills/``.

    The same input gives the same bytes. A page whose input has not changed is not written again.

    Parameters
    ----------
    runs
        Run records in any order, with those of running and lost runs.
    out
        The site's directory, which is created if needed. Pages of runs that are not in ``runs`` are left as they are.
    history_of
        Returns a run's history by its id; called for the runs whose pages are written.
    archive_href
        Returns the href of a file by run id and file name. A relative one starts from ``out/runs/``.
    title
        The shop's title.
    now
        The time at which the site is made; it decides which dates are due. The clock is not read.
    calendar
        The expected dates; every date since the first run if not given.
    backfills
        Records of backfills, oldest first, with the ``results`` of their dates.
    ranges
        Records of runs over ranges. ``runs`` has their date runs.

    Returns
    -------
    Path
        The index page.

    Raises
    ------
    ArchiveError
        If a record holds an id, a time or an amount that cannot be one. Nothing is written then.
    """
    for run in [*runs, *ranges]:
        records.require_page_name(run.run_id, "run_id")
        records.require_page_name(run.range_id or run.run_id, "range_id")
    for each in backfills:
        records.require_page_name(each.backfill_id, "backfill_id")
    newest = days.newest_by_date(runs)
    unusual = findings.list_unusual_days(backfills)
    range_ids = {each.run_id for each in ranges}
    backfill_ids = {each.backfill_id for each in backfills}
    of_date = days.runs_by_date(runs)
    pages = {out / "index.html": _render_index_page(runs, newest, calendar, backfills, title=title, now=now)}
    ordered = list(newest.values())
    for previous, current, following in zip([None, *ordered], ordered, [*ordered[1:], None]):
        same_day = of_date[current.run_date]
        for number, run in enumerate(same_day):
            path = out / "runs" / f"{run.run_id}.html"
            others = [other for other in reversed(same_day) if other is not run]
            earlier = same_day[:number]
            # What the page is made of besides its record: it is written again if one of these has changed.
            around: dict[str, Any] = {
                "title": title,
                "previous": previous and previous.model_dump(include={"run_id", "run_date"}),
                "following": following and following.model_dump(include={"run_id", "run_date"}),
                "others": [{"run_id": other.run_id, "outcome": records.outcome_of(other).name} for other in others],
                "unusual": unusual.get(run.run_id, []),
                "part_of": run.part_of if run.part_of in backfill_ids else None,
                "range_page": run.range_id if run.range_id in range_ids else None,
                "standing": describe_rollback(run, earlier) or describe_published_figures(run.outcome, run.stages, earlier),
            }
            files = run.range_id or run.run_id
            made_from = _compute_input_digest(run, around, archive_href(run.run_id, ""), archive_href(files, ""))
            # The history of a running run grows, so its page is always written.
            if run.state != "closed" or _read_input_digest(path) != made_from:
                hrefs = functools.partial(archive_href, run.run_id), functools.partial(archive_href, files)
                pages[path] = _render_run_page(run, history_of(run.run_id), *hrefs, now=now, made_from=made_from, **around)
    linked = {run.run_id: run for run in runs}
    for whole in ranges:
        path = out / "runs" / f"{whole.run_id}.html"
        dates = [(day, each, linked.get(each.run_id)) for day, each in whole.dates.items()]
        part_of = whole.part_of if whole.part_of in backfill_ids else None
        made_from = _compute_input_digest(whole, [(day, found) for day, _, found in dates], part_of, title)
        if whole.state != "closed" or _read_input_digest(path) != made_from:
            pages[path] = render_page(
                "range",
                title=title,
                now=now,
                made_from=made_from,
                run=whole,
                dates=dates,
                part_of=part_of,
                rows_of=records.count_run_rows,
                href=functools.partial(archive_href, whole.run_id),
            )
    for each in backfills:
        path = out / "backfills" / f"{each.backfill_id}.html"
        results = [(result, result.run_id if result.run_id in linked else None) for result in each.results or []]
        made_from = _compute_input_digest(each, results, title)
        if _read_input_digest(path) != made_from:
            pages[path] = render_page("backfill", title=title, now=now, made_from=made_from, backfill=each, dates=results)
    for path, page in pages.items():
        _write_page(path, page)
    return out / "index.html"


def _render_index_page(
    runs: Sequence[RunRecord],
    newest: Mapping[date, RunRecord],
    calendar: Calendar,
    backfills: Sequence[BackfillRecord],
    *,
    title: str,
    now: datetime,
) -> str:
    good = days.newest_succeeded(runs)
    good_day = max(good) if good else None
    headline = headline_figure()
    values = [(day, (run.summary or {}).get(headline)) for day, run in good.items()]
    line = [(day, formats.to_decimal(value) if isinstance(value, str) else value) for day, value in values if value is not None]
    states = list_date_states(calendar, {day: run.outcome for day, run in newest.items()}, now)
    outcomes = days.list_outcomes(states, newest)
    never_ran = list_never_ran(states)
    newest_first = sorted(runs, key=records.chronological_key, reverse=True)
    return render_page(
        "index",
        title=title,
        now=now,
        good_day=formats.format_long_date(good_day) if good_day else None,
        good_run=good[good_day] if good_day else None,
        figures=findings.order_figures(good[good_day]) if good_day else {},
        headline=headline,
        sparkline=days.build_sparkline(line),
        years=days.build_calendar(outcomes, newest),
        totals=Counter(outcome.name for outcome in outcomes.values() if outcome),
        never_ran=group_dates(never_ran, calendar),
        never_ran_by_year=Counter(day.year for day in never_ran),
        backfills=list(reversed(backfills)),
        runs=[(run, records.count_run_rows(run)) for run in newest_first[:NEWEST_RUNS_SHOWN]],
        runs_in_all=len(runs),
        started_at=records.started_at,
        retries=records.count_retries,
    )


def _render_run_page(
    run: RunRecord,
    history: Sequence[Mapping[str, Any]],
    href: Callable[[str], str],
    href_of_files: Callable[[str], str],
    **around: Any,
) -> str:
    """Return the page of a run; ``around`` is what it shows besides the run's record and history.

    ``href_of_files`` returns the href of a notebook, page or journal: those of a date run are its range's.
    """
    restated = findings.list_restatements(run)
    return render_page(
        "run",
        **around,
        run=run,
        day=formats.format_long_date(run.run_date),
        figures=findings.order_figures(run) if is_published(run) else {},
        started_at=records.started_at(run),
        attempts=run.stages,
        slowest=max((attempt.seconds for attempt in run.stages if attempt.seconds), default=None),
        rows=records.count_run_rows(run),
        failed=records.find_failed_attempt(run),
        rules=findings.list_rule_results(run),
        accounting=findings.list_row_accounting(run),
        restated=restated,
        figures_of_dates=findings.list_figures(restated),
        kept_back=findings.stage_details(run, "quality").held_dates,
        left_out=findings.stage_details(run, "aggregate").held_dates,
        left_to_newer=findings.stage_details(run, "quality").left_to_newer,
        redactions=findings.count_redactions(run),
        raw_reads=[read for attempt in run.stages for read in attempt.details.raw_reads],
        lineage=render_lineage(run.lineage),
        lineage_gaps=[gap for attempt in records.last_attempts(run).values() for gap in attempt.details.lineage_gaps],
        tables=records.list_table_usage(run),
        inputs=records.list_input_files(run),
        timeline=build_timeline(history),
        href=href,
        href_of_files=href_of_files,
    )


def _compute_input_digest(*parts: Any) -> str:
    """Return a digest of what a page is made from: these values, and the code and templates of this package."""
    digest = hashlib.sha256(_compute_code_digest().encode())
    for part in parts:
        if isinstance(part, RecordModel):
            digest.update(part.model_dump_json(by_alias=True, exclude_unset=True).encode())
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()


@functools.cache
def _compute_code_digest() -> str:
    """Return a digest of the code and the templates that make pages."""
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(__file__).parent.rglob("*") if path.suffix in (".py", ".j2", ".css")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read_input_digest(path: Path) -> Optional[str]:
    """Return the input digest in a page; None if there is no page."""
    try:
        with path.open(encoding="utf-8") as page:
            found = _INPUT_DIGEST.search(page.read(_HEAD_BYTES))
    except FileNotFoundError:
        return None
    return found[1] if found else None


def _write_page(path: Path, page: str) -> None:
    """Replace ``path`` in one step, so that a reader never sees half a page."""
    with wrap_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            # A message from a broken file may hold characters that UTF-8 cannot encode: they are escaped.
            scratch.write_bytes(page.encode("utf-8", "backslashreplace"))
            scratch.replace(path)
        except OSError:
            with suppress(OSError):  # If this fails too, the error of the page is enough.
                scratch.unlink(missing_ok=True)
            raise
