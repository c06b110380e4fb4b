"""What the candidates of a run were computed from, and which of its dates touched which dates of gold."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Optional

from pydantic import BaseModel

from daybook.lake.publish import LakeSnapshot


class CandidateBasis(BaseModel):
    """What a run's candidates were computed from."""

    snapshot: LakeSnapshot
    """The versions of silver."""
    run_dates: list[date] = []
    """The business dates of the run that continue, in order."""
    notes: dict[date, list[str]]
    """The notes of stale dates that the candidates answer, by the run date that they are for."""
    touched_by: dict[date, list[date]] = {}
    """By date of the candidates, the run dates that changed it in silver, in order. A run date touches itself."""
    shared: list[date] = []
    """Dates of the candidates that are noted for the next run of any date, as if every run date had touched them."""
    held: list[date]
    """The stale dates that a gate holds."""
    refused: list[date] = []
    """Run dates that a gate has refused since the snapshot."""
    stopped: list[date] = []
    """Dates that these have touched, which are left out of the candidates."""
    candidates: dict[str, int] = {}
    """The versions of the candidates once all are written."""
    definitions: dict[str, str]
    """Queries of the notebook by name, which the quality stage reads again."""

    @property
    def dates(self) -> list[date]:
        """The dates of the candidates, in order."""
        return sorted({*self.touched_by, *self.shared})

    def touched(self, run_date: date) -> list[date]:
        """Return the dates of the candidates that a run of this date alone would compute."""
        return [day for day in self.dates if day in self.shared or run_date in self.touched_by[day]]

    def owner(self, day: Optional[date]) -> date:
        """Return the run date to which a date of the candidates is attributed: itself, else the first that touched it.

        Rows of tables without dates have None. They are as of the last run date.
        """
        if day is None:
            return self.run_dates[-1]
        return day if day in self.run_dates else next(iter(self.touched_by.get(day, ())), self.run_dates[0])

    def leave_out(self, refused: Collection[date]) -> CandidateBasis:
        """Return the basis without run dates that a gate refused and without the dates that they hold.

        Those that another run date touched stay stale.
        """
        run_dates = [day for day in self.run_dates if day not in refused]
        stopped = {day for day, touched_by in self.touched_by.items() if not {*refused}.isdisjoint(touched_by)}
        stale = [day for day in stopped if day in self.shared or not {*run_dates}.isdisjoint(self.touched_by[day])]
        return self.model_copy(
            update={
                "run_dates": run_dates,
                "notes": {day: names for day, names in self.notes.items() if day not in refused},
                "touched_by": {day: found for day, found in self.touched_by.items() if day not in stopped},
                "shared": [day for day in self.shared if day not in stopped],
                "held": sorted({*self.held, *stale}),
                "refused": sorted({*self.refused, *refused}),
                "stopped": sorted({*self.stopped, *stopped}),
            }
        )
