"""Static HTML reports: a page for each executed notebook and each run, and a calendar of business dates.

A browser opens them without a server and without a network.
"""

from __future__ import annotations
