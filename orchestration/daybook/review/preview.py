"""Preview a change: run its stages for representative dates in a temporary copy, and compare the copy with published tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Callable, Literal, NamedTuple, Optional

from pydantic import BaseModel, ConfigDict, Field

from daybook.errors import UsageError
from daybook.execution.development import run_into_copy, temporary_copy
from daybook.records.archive import Archive
from daybook.records.models import RunOutcome, StageResult
from daybook.review.changed_stages import TABLE_STAGES, Change, find_changes
from daybook.review.comparison import compare_development_copy
from daybook.review.representative_days import RecordedDay, choose_days, kinds_by_figure, read_days
from daybook.review.table_diff import Comparison
from daybook.settings import Settings

StageListener = Callable[[date, StageResult], None]
"""Called with the business date and the result of each stage that has run."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PreviewDate(_Model):
    """A date that a change is previewed on."""

    date: date
    why: str = Field(description="Why the date was chosen.")
    outcome: RunOutcome = Field(description="Outcome in the preview. Only SUCCEEDED has gold to compare.")


class Preview(_Model):
    """What a change does on some dates."""

    schema_version: Literal[1] = 1
    data: str = Field(description="The shop and the deployment whose tables were read.")
    changes: list[str] = Field(description="What differs from what computed the published dates.")
    stages: list[str] = Field(description="The stages that ran; empty if nothing changed.")
    dates: list[PreviewDate] = Field(description="The dates that ran.")
    absent: list[str] = Field(description="Kinds of days of which the records have none.")
    comparison: Comparison = Field(description="From published to the preview.")

    def without_rows(self) -> Preview:
        """Return a copy with schema changes, counts and totals only. It may leave the data zone."""
        return self.model_copy(update={"comparison": self.comparison.without_rows()})


class Plan(NamedTuple):
    """The dates to run with their reasons, and the stages."""

    days: Sequence[RecordedDay]
    reasons: dict[date, str]
    absent: list[str]
    changes: list[Change]
    stages: list[str]


def plan_preview(settings: Settings, dates: Sequence[date] = (), first_stage: Optional[str] = None) -> Plan:
    """Choose dates and stages from the records.

    Parameters
    ----------
    settings
        The deployment.
    dates
        The dates to run instead of representative ones.
    first_stage
        The first stage to run instead of the first changed one.

    Raises
    ------
    UsageError
        If no date was published or skipped, or a given date has no run.
    """
    archive = Archive(settings.archive)
    if first_stage and first_stage not in TABLE_STAGES:
        raise UsageError(f"{first_stage!r} is no stage of a preview; choose one of: {', '.join(TABLE_STAGES)}.")
    days = read_days(archive, dates)
    if dates:
        never_ran = sorted(set(dates) - {day.run_date for day in days})
        if never_ran:
            raise UsageError(f"{never_ran[0]} has no run, so there is nothing to compare; run the date first.")
        chosen, absent = dict.fromkeys(dates, "given with --date"), []
    else:
        found = choose_days(days, kinds_by_figure())
        chosen, absent = dict(found.reasons), list(found.absent)
    if not chosen:
        raise UsageError("No date is published, so there is nothing to compare; run a date first, or give --date.")
    days = [day for day in days if day.run_date in chosen]
    changes = find_changes(settings, archive, days)
    first = first_stage or (changes[0].stage if changes else None)
    return Plan(days, chosen, absent, changes, list(TABLE_STAGES[TABLE_STAGES.index(first) :]) if first else [])


def run_preview(settings: Settings, plan: Plan, listener: StageListener, *, keep: bool = False) -> Preview:
    """Run the stages of a plan into a temporary development copy, and compare the copy with what is published.

    Parameters
    ----------
    settings
        The deployment.
    plan
        Dates and stages.
    listener
        Called after each stage.
    keep
        Whether the copy stays.

    Raises
    ------
    StageError
        If a notebook fails. The copy is removed.
    """
    dates: list[PreviewDate] = []
    comparison = Comparison(before="published", after="preview", dates=[], tables=[])
    if plan.stages:
        with temporary_copy(settings.lake, keep=keep) as copy:
            dates += [_run_date(settings, copy, plan, day, listener) for day in plan.days]
            if any(each.outcome == "SUCCEEDED" for each in dates):
                found = compare_development_copy(settings, copy)
                comparison = found.model_copy(update={"after": f"preview (development copy {copy})" if keep else "preview"})
    return Preview(
        data=f"{settings.title} ({settings.env})",
        changes=[change.what for change in plan.changes],
        stages=plan.stages,
        dates=dates,
        absent=plan.absent,
        comparison=comparison,
    )


def _run_date(settings: Settings, copy: str, plan: Plan, day: RecordedDay, listener: StageListener) -> PreviewDate:
    outcome: RunOutcome = "SUCCEEDED"
    stages = plan.stages
    if day.outcome == "SKIPPED" and stages[0] != TABLE_STAGES[0]:
        # Later stages have nothing to read of a date that ingest skipped.
        outcome, stages = "SKIPPED", []
    for stage in stages:
        result = run_into_copy(settings, copy, stage, day.run_date)
        listener(day.run_date, result)
        outcome = result.outcome
        if outcome != "SUCCEEDED":
            break
    return PreviewDate(date=day.run_date, why=plan.reasons[day.run_date], outcome=outcome)
