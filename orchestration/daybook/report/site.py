"""The site of all runs: ``index.html`` with the calendar, one page a run and one page a backfill."""

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
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from daybook.report import days, findings, formats, records
from daybook.report.lineage import lineage_section
from daybook.report.pages import render_page
from daybook.report.records import Record
from daybook.report.timeline import build_timeline
from daybook.scheduling.due import Run, never_ran, ranges, states
from daybook.scheduling.freshness import has_published, standing
from daybook.sources import Calendar
from daybook.storage import writing

NEWEST_RUNS_SHOWN = 200
_EVERY_DAY = Calendar()
_MADE_FROM = re.compile('<meta name="made-from" content="([0-9a-f]{64})">')
_HEAD = 1024
"""Characters of a page that hold its first lines."""


def build_site(
    runs: Sequence[Record],
    *,
    out: Path,
    history_of: Callable[[str], Sequence[Record]],
    archive_href: Callable[[str, str], str],
    title: str,
    now: datetime,
    calendar: Calendar = _EVERY_DAY,
    backfills: Sequence[Record] = (),
) -> Path:
    """Write ``out/index.html``, a page for every run in ``out/runs/`` and one for every backfill in ``out/backfills/``; same
    input, same bytes.

    A page that was made from the same is left as it is: after a night one run's page is new, not a thousand.

    Parameters
    ----------
    runs
        Run records in any order, those of runs under way (``"state": "running"``) and lost ones included.
    out
        The site's directory; made if it is not there. Pages of runs that are not in ``runs`` are left as they are.
    history_of
        ``run_id -> the run's history``, asked for the runs whose pages are made.
    archive_href
        ``(run_id, file name in the run's archive) -> href``. A relative one is read from within ``out/runs/``.
    title
        The shop's title.
    now
        The time at which the site is made, which decides the dates that are due. The clock is not read.
    calendar
        The dates that the source should bring; every date since the first run if not given.
    backfills
        Records of backfills, oldest first, each with the ``results`` of its dates.

    Returns
    -------
    Path
        The index page.

    Raises
    ------
    ArchiveError
        If a record holds an id, a date, a time, an amount or an outcome that cannot be one. Nothing is written then.
    """
    newest = days.newest_by_date(runs)
    unusual = findings.unusual(backfills)
    known = {records.page_name(str(each["backfill_id"])) for each in backfills}
    by_date: Dict[date, List[Record]] = {}
    for run in sorted(runs, key=records.age_key, reverse=True):
        by_date.setdefault(formats.parse_business_date(str(run.get("run_date"))), []).append(run)
    places = {day: place for place, day in enumerate(newest)}
    pages = {out / "index.html": _index_page(runs, newest, calendar, backfills, title=title, now=now)}
    for day, same_day in by_date.items():
        same_day.sort(key=records.number_of, reverse=True)
        for run in same_day:
            path = out / "runs" / f"{records.run_id_of(run)}.html"
            others = [other for other in same_day if other is not run]
            previous, following = _neighbours(day, places, list(newest.values()))
            around: List[Any] = [None if each is None else records.run_id_of(each) for each in (previous, following)]
            around += [(records.run_id_of(each), records.outcome_of(each).name) for each in others]
            part_of = run.get("part_of") if run.get("part_of") in known else None
            of_backfill = (part_of, [vars(each) for each in unusual.get(records.run_id_of(run), [])])
            earlier = [other for other in reversed(others) if records.number_of(other) < records.number_of(run)]
            kept = standing(run, earlier)
            made_from = _digest(run, around, of_backfill, kept, title, archive_href(records.run_id_of(run), ""))
            # A run that is under way has a history that grows, and no record yet that would tell.
            if run.get("state") == "closed" and _made_from(path) == made_from:
                continue
            pages[path] = _run_page(
                run,
                day,
                made_from=made_from,
                previous=previous,
                following=following,
                others=others,
                unusual=unusual.get(records.run_id_of(run), []),
                part_of=part_of,
                standing=kept,
                history=history_of(records.run_id_of(run)),
                archive_href=archive_href,
                title=title,
                now=now,
            )
    linked = {records.run_id_of(run) for run in runs}
    for each in backfills:
        path = out / "backfills" / f"{records.page_name(str(each['backfill_id']))}.html"
        dates = [(result, result["run_id"] if result["run_id"] in linked else None) for result in each.get("results") or []]
        made_from = _digest(each, dates, title)
        if _made_from(path) != made_from:
            pages[path] = render_page("backfill", title=title, now=now, made_from=made_from, backfill=each, dates=dates)
    for path, page in pages.items():
        _write(path, page)
    return out / "index.html"


def _index_page(
    runs: Sequence[Record],
    newest: Mapping[date, Record],
    calendar: Calendar,
    backfills: Sequence[Record],
    *,
    title: str,
    now: datetime,
) -> str:
    good = days.newest_good(runs)
    good_day = max(good) if good else None
    revenue = [
        (day, formats.to_decimal(run["summary"]["net_revenue"]))
        for day, run in good.items()
        if run["summary"].get("net_revenue") is not None
    ]
    known = {day: Run(records.run_id_of(run), records.outcome_of(run).name) for day, run in newest.items()}
    every = states(calendar, known, now)
    outcomes = [days.outcome_of_day(day, newest) for day in every]
    missing = never_ran(every)
    newest_first = sorted(runs, key=records.age_key, reverse=True)
    return render_page(
        "index",
        title=title,
        now=now,
        good_day=formats.long_date(good_day) if good_day else None,
        good_run=good[good_day] if good_day else None,
        revenue=days.sparkline(revenue),
        weekdays=days.WEEKDAYS,
        years=days.build_calendar(every, newest),
        totals=Counter(outcome.name for outcome in outcomes if outcome),
        never_ran=ranges(missing, calendar),
        missing=len(missing),
        backfills=list(reversed(backfills)),
        runs=[(run, records.run_rows(run)) for run in newest_first[:NEWEST_RUNS_SHOWN]],
        runs_in_all=len(runs),
        started_at=records.started_at,
        retries=records.retries,
    )


def _run_page(
    run: Record,
    day: date,
    *,
    made_from: str,
    previous: Optional[Record],
    following: Optional[Record],
    others: List[Record],
    unusual: List[findings.Unusual],
    part_of: Optional[str],
    standing: str,
    history: Sequence[Record],
    archive_href: Callable[[str, str], str],
    title: str,
    now: datetime,
) -> str:
    run_id = records.run_id_of(run)
    attempts = records.attempts(run)
    return render_page(
        "run",
        title=title,
        now=now,
        made_from=made_from,
        run=run,
        day=formats.long_date(day),
        previous=previous,
        following=following,
        others=others,
        unusual=unusual,
        part_of=part_of,
        standing=standing,
        figures=run.get("summary") if has_published(run) else None,
        started_at=records.started_at(run),
        attempts=attempts,
        slowest=_slowest(attempts),
        rows=records.run_rows(run),
        failed=records.failure_of(run),
        rules=findings.rules(run),
        accounting=findings.accounting(run),
        restated=findings.restated(run),
        figures_of_dates=findings.FIGURES,
        kept_back=findings.dates(run, "quality", "held_dates"),
        left_out=findings.dates(run, "aggregate", "held_dates"),
        left_to_newer=findings.dates(run, "quality", "left_to_newer"),
        redactions=findings.redactions(run),
        raw_reads=findings.raw_reads(run),
        lineage=lineage_section(run.get("lineage")),
        lineage_gaps=findings.lineage_gaps(run),
        tables=records.table_uses(run),
        inputs=records.inputs(run),
        timeline=build_timeline(history),
        href=lambda file: archive_href(run_id, file),
    )


def _neighbours(day: date, places: Mapping[date, int], newest: Sequence[Record]) -> Tuple[Optional[Record], Optional[Record]]:
    """The newest run of the business date with runs before this one, and of that after it."""
    place = places[day]
    return newest[place - 1] if place else None, newest[place + 1] if place + 1 < len(newest) else None


def _digest(*parts: Any) -> str:
    """What tells apart what pages are made from: these values, and the code and templates of this room."""
    return hashlib.sha256(json.dumps([_code(), *parts], sort_keys=True, default=str).encode()).hexdigest()


@functools.cache
def _code() -> str:
    """The digest of the code and the templates that make pages."""
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(__file__).parent.rglob("*") if path.suffix in (".py", ".j2", ".css")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _made_from(path: Path) -> Optional[str]:
    """What a page says that it was made from; None where there is no page."""
    try:
        with path.open(encoding="utf-8") as page:
            found = _MADE_FROM.search(page.read(_HEAD))
    except FileNotFoundError:
        return None
    return found[1] if found else None


def _slowest(attempts: List[Record]) -> Optional[float]:
    return max((attempt["seconds"] for attempt in attempts if attempt.get("seconds")), default=None)


def _write(path: Path, page: str) -> None:
    """Replace ``path`` in one step: a reader never sees half a page."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            # A message out of a broken file may hold what UTF-8 cannot: it is shown escaped rather than losing the page.
            scratch.write_bytes(page.encode("utf-8", "backslashreplace"))
            scratch.replace(path)
        except OSError:
            with suppress(OSError):  # Where not even this can be done, what is said of the page says it all.
                scratch.unlink(missing_ok=True)
            raise
