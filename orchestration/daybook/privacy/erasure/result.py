"""The result of an erasure, for messages, scripts and the record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from daybook.privacy.erasure.verify import SearchResult


@dataclass
class ErasureResult:
    """What an erasure changed or would change. ``record`` is the URI of the record, once it is written."""

    pseudonyms: list[str]
    erased_before: bool = False
    rows: dict[str, int] = field(default_factory=dict)
    """Number of the person's rows, by table."""
    free_text_rows: dict[str, int] = field(default_factory=dict)
    """Number of rows whose free text names the person, by column."""
    stale_dates: int = 0
    files_removed: int = 0
    proof: SearchResult = field(default_factory=SearchResult)
    landing: list[str] = field(default_factory=list)
    """Landing files with values of the person."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Landing files that could not be searched to their end, with the reason."""
    record: Optional[str] = None

    @property
    def is_verified(self) -> bool:
        """Whether every file was searched, and no file of Daybook has values of the person."""
        return self.proof.is_clean and not self.unreadable

    def to_preview(self) -> dict[str, Any]:
        """Return the expected changes for scripts."""
        return {**self._common(), "found": self.proof.matches}

    def to_record(self) -> dict[str, Any]:
        """Return the result for records and scripts."""
        return {
            **self._common(),
            "old_files_removed": self.files_removed,
            "files_searched": self.proof.files,
            "proved": self.is_verified,
            "landing_files_with_the_person": self.landing,
            "landing_files_not_searched": self.unreadable,
        }

    def _common(self) -> dict[str, Any]:
        return {
            "pseudonyms": self.pseudonyms,
            "again": self.erased_before,
            "rows": self.rows,
            "also": self.free_text_rows,
            "order_dates_noted": self.stale_dates,
            "not_searched": self.proof.unsearched,
        }


Confirm = Callable[[ErasureResult], None]
"""Called with the expected changes before the first write. An exception cancels the erasure."""
