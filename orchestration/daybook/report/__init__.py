"""Render static HTML reports: a page per executed notebook, run and backfill, and a calendar of business dates.

They open in a browser without a server and without a network.
"""

from __future__ import annotations
