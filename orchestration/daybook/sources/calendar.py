"""The business dates on which a source delivers: the ``calendar`` of its YAML."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any, Literal, Optional

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from daybook.errors import UsageError
from daybook.settings import parse_run_date

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _parse_date(value: Any) -> date:
    # Not isinstance: a datetime is a subclass of date. Pydantic would accept a number.
    if type(value) is date:
        return value
    try:
        return parse_run_date(value if isinstance(value, str) else "")
    except UsageError:
        raise ValueError("it should be a date such as 2025-11-30") from None


Day = Annotated[date, BeforeValidator(_parse_date)]
Weekday = Annotated[
    Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
    BeforeValidator(lambda value: value.capitalize() if isinstance(value, str) else value),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DateRange(_Model):
    """A range of dates with both ends: ``2011-04-29``, or ``2010-12-24..2011-01-03``."""

    first: Day
    last: Day

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        try:
            ends = [_parse_date(end) for end in (value.split("..") if isinstance(value, str) else [value])]
            first, last = ends if len(ends) == 2 else ends * 2
        except ValueError:
            raise ValueError("it should be a date, or a range such as 2010-12-24..2011-01-03") from None
        if last < first:
            raise ValueError("it should be the earlier date first")
        return {"first": first, "last": last}


class Calendar(_Model):
    """The expected business dates. Without any key every date is expected, from the first one that ran."""

    first: Optional[Day] = Field(default=None, description="First business date.")
    last: Optional[Day] = Field(default=None, description="Last business date, if the data ends.")
    closed_weekdays: list[Weekday] = Field(default_factory=list, description="Weekdays on which the shop is always closed.")
    closed: list[DateRange] = Field(
        default_factory=list, description="Dates and ranges FIRST..LAST on which the shop was closed."
    )

    @field_validator("last")
    @classmethod
    def _require_after_first(cls, value: Optional[date], info: ValidationInfo) -> Optional[date]:
        first = info.data.get("first")
        if first and value and value < first:
            raise ValueError(f"it should not be before the first date, {first}")
        return value

    @field_validator("closed_weekdays")
    @classmethod
    def _require_open_weekday(cls, value: list[str]) -> list[str]:
        if set(value) == set(WEEKDAYS):
            raise ValueError("it should leave out at least one weekday, on which the shop is open")
        return value

    def is_expected(self, day: date) -> bool:
        """Return whether a business date should have a successful run."""
        return (
            (self.first is None or day >= self.first)
            and (self.last is None or day <= self.last)
            and WEEKDAYS[day.weekday()] not in self.closed_weekdays
            and not any(span.first <= day <= span.last for span in self.closed)
        )

    def expected(self, first: date, last: date) -> list[date]:
        """Return the expected business dates from ``first`` to ``last``, oldest first; none if ``last`` is before ``first``."""
        first, last = max(first, self.first or first), min(last, self.last or last)
        days = (first + timedelta(days=past) for past in range((last - first).days + 1))
        return [day for day in days if self.is_expected(day)]
