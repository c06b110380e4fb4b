"""Run Amazon States Language files locally, with the same meaning and history events as Step Functions.

The package supports a strict subset of the language with JSONata (see ``model``) and rejects the rest.
"""

from __future__ import annotations

from asl_local.clock import Clock, FakeClock, SystemClock
from asl_local.definition import StateMachine
from asl_local.errors import JournalError, StateMachineError
from asl_local.execution import resume_execution, run_execution
from asl_local.history import format_event, get_event_details, is_executing, read_events
from asl_local.lint import lint_file
from asl_local.model import Finding
from asl_local.replay import Execution
from asl_local.tasks import Heartbeat, TaskError, TaskService, TaskTimeout

__all__ = [
    "Clock",
    "Execution",
    "FakeClock",
    "Finding",
    "Heartbeat",
    "JournalError",
    "StateMachine",
    "StateMachineError",
    "SystemClock",
    "TaskError",
    "TaskService",
    "TaskTimeout",
    "format_event",
    "get_event_details",
    "is_executing",
    "lint_file",
    "read_events",
    "resume_execution",
    "run_execution",
]
