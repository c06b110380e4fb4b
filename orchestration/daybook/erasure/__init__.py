"""Erasing a person: out of every layer and every old version of the tables, proved by a search, and kept out from then on."""

from __future__ import annotations

from daybook.erasure.erasing import Erased, erase, erase_again
from daybook.erasure.people import erased_people
from daybook.erasure.withholding import Withheld, withhold

__all__ = ["Erased", "Withheld", "erase", "erase_again", "erased_people", "withhold"]
