"""The closing record of a run: its attempts together, how long it took and what it cost, and its lineage as events."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta, timezone
from statistics import median
from typing import Any, Callable, Optional

from daybook.contracts import LAYERS, load_tables
from daybook.errors import DaybookError
from daybook.execution.attempt import close_abandoned_attempts, compute_ended_at, load_redactor, seconds_between
from daybook.execution.openlineage import build_run_events, format_json_lines, post_events
from daybook.lake.lineage.graph import collect_lineage, without_lineage
from daybook.privacy.redactor import Redactor, withhold_free_text
from daybook.records.archive import Archive, Record
from daybook.records.cost import calculate_cost, estimate_usage, load_prices, usage_from_history
from daybook.records.fingerprint import code_version, compute_fingerprint, package_versions, state_machine_version
from daybook.records.names import run_date_of
from daybook.settings import Settings

_log = logging.getLogger(__name__)

HistoryLoader = Callable[[], Iterable[Mapping[str, Any]]]
"""Asks for the events of the execution that a run is in, oldest first."""
_BASELINE_DAYS, _MIN_BASELINE_RUNS = 28, 7
"""How many business dates say how long a run usually takes, and of how many of them there must be a good run."""


def close_run(
    archive: Archive,
    settings: Settings,
    run_id: str,
    outcome: str,
    reasons: list[str],
    summary: Optional[dict[str, Any]] = None,
    *,
    execution: str = "",
    history: Optional[HistoryLoader] = None,
    redactor_now: Optional[Callable[[], Redactor]] = None,
) -> Record:
    """Write a run's record from those of its attempts; its cost from the execution's history, where that can be asked for."""
    close_abandoned_attempts(archive, settings, run_id)
    attempts = archive.attempts(run_id)
    order = {name: table.columns for layer in LAYERS for name, table in load_tables(layer).items()}
    begun = archive.started(run_id)
    started = begun["started_at"]
    ended = compute_ended_at(started, begun.get("clock"), least=sum(each["seconds"] for each in attempts))
    record = {
        "record": "run",
        "run_id": run_id,
        "run_date": run_date_of(run_id).isoformat(),
        "env": settings.env,
        "source": settings.source,
        "title": settings.title,
        "currency": settings.currency,
        "outcome": outcome,
        "reasons": reasons,
        "started_at": started,
        "ended_at": ended,
        "seconds": seconds_between(started, ended),
        "usual_seconds": None if "part_of" in begun else _median_seconds(archive, run_date_of(run_id)),
        "state_machine": state_machine_version(),
        "code": code_version(),
        # A date whose fingerprint differs from the current one is stale.
        "fingerprint": compute_fingerprint(settings),
        "packages": package_versions(),
        "engine": next((each["engine"] for each in attempts if each["engine"]), None),
        "python": platform.python_version(),
        "stages": [without_lineage(each) for each in attempts],
        "summary": summary,
        "cost": _compute_cost(archive, settings, run_id, attempts, execution, history),
        # Whoever let pass what a gate had refused, and why.
        **({"approval": begun["approval"]} if "approval" in begun else {}),
        # The backfill that it was a day of.
        **({"part_of": begun["part_of"]} if "part_of" in begun else {}),
        "lineage": collect_lineage(attempts, order),
    }
    try:
        redactor = redactor_now() if redactor_now else load_redactor(settings, run_id)
        record = redactor.redact_record(record)
    except Exception as error:  # noqa: BLE001 (what cannot be searched is not archived, whatever the reason)
        record = withhold_free_text(record, error)
    archive.write_run(record)
    _write_lineage_events(archive, settings, record)
    return record


def _median_seconds(archive: Archive, run_date: date) -> Optional[float]:
    """The median length of the good runs of the four weeks before a date, in seconds; None where there are too few to say.

    Days of a backfill do not count: they run beside each other, and so take longer.
    """
    days = (run_date - timedelta(days=back) for back in range(1, _BASELINE_DAYS + 1))
    runs = [archive.run(ids[-1]) for ids in map(archive.run_ids, days) if ids]
    found = [run["seconds"] for run in runs if run["outcome"] == "SUCCEEDED" and "part_of" not in run]
    return median(found) if len(found) >= _MIN_BASELINE_RUNS else None


def _compute_cost(
    archive: Archive, settings: Settings, run_id: str, attempts: list[Record], execution: str, history: Optional[HistoryLoader]
) -> Optional[Record]:
    """What the run costs, by the deployment's price table; None without one. No fault in it keeps a run from being closed."""
    if settings.prices is None:
        return None
    try:
        prices = load_prices(settings.prices)
    except DaybookError as error:
        _log.warning("%s: no cost is noted: %s", run_id, error)
        return None
    use = estimate_usage(attempts)
    if history is not None:
        try:
            use = usage_from_history(history(), datetime.now(timezone.utc), execution)
        except Exception as error:  # noqa: BLE001 (a service may fail in any way; the record says that it is an estimate)
            _log.warning("%s: its cost is an estimate: its history was not told (%s).", run_id, type(error).__name__)
    before = archive.read_closing_records(run_id)
    return calculate_cost(use, attempts, prices, before[-1].get("cost") if before else None)


def _write_lineage_events(archive: Archive, settings: Settings, record: Record) -> None:
    """Leave the closed run as OpenLineage events. Whatever is wrong with them, the run is what its record says."""
    try:
        events = build_run_events(record, settings)
        archive.write_lineage_events(record["run_id"], format_json_lines(events))
        if settings.openlineage_url:
            post_events(events, settings.openlineage_url)
    except Exception as error:  # noqa: BLE001 (a warning in the log, never a failed run)
        said = str(error) if isinstance(error, DaybookError) else f"no lineage events were made ({type(error).__name__})."
        _log.warning("%s: %s", record["run_id"], said)
