"""Static HTML for people: one page an executed notebook, one page a run, and a calendar of all business dates.

Here: everything that turns records and notebooks into files a browser opens without a server or a network. Not here:
where records come from (``daybook.archive``), when pages are written (``daybook.execution``, ``daybook.cli``).
"""

from __future__ import annotations
