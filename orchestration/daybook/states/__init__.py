"""The local runner of state machines: runs the very file that Step Functions runs, with the same meaning.

It takes a strict subset of the Amazon States Language in JSONata (``reader``) and refuses the rest. Not here: the
services behind Task states, which callers hand in, and the state machine files (``orchestration/*.asl.json``).
"""

from __future__ import annotations

from daybook.states.clock import Clock, FakeClock, SystemClock
from daybook.states.definition import StateMachine
from daybook.states.execution import Execution, resume_execution, run_execution
from daybook.states.history import details_of, is_executing, line_of, read_events
from daybook.states.model import Finding
from daybook.states.rules import lint
from daybook.states.tasks import Heartbeat, TaskError, TaskService, TaskTimeout

__all__ = [
    "Clock",
    "Execution",
    "FakeClock",
    "Finding",
    "Heartbeat",
    "StateMachine",
    "SystemClock",
    "TaskError",
    "TaskService",
    "TaskTimeout",
    "details_of",
    "is_executing",
    "line_of",
    "lint",
    "read_events",
    "resume_execution",
    "run_execution",
]
