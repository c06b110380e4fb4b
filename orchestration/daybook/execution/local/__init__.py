"""Execute runs and backfills on this machine with the state machine files and the job script that AWS uses.

``interpreter`` executes state machines, ``jobs`` has the services for their tasks, ``runs`` the runs of one business date and
``backfills`` those of many.
"""
