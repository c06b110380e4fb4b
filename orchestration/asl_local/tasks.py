"""Define the protocol of task services, which run the tasks of Task states locally."""

from __future__ import annotations

import re
from typing import Any, Callable, Optional, Protocol, Tuple

Heartbeat = Callable[[], None]
"""Raises if the execution is stopped. The service then stops its work and lets the exception propagate."""

_RESOURCE = re.compile(
    r"arn:aws[a-z-]*:states:[a-z0-9-]*:[0-9]*:"
    r"(?P<type>[A-Za-z0-9-]+(?::[A-Za-z0-9-]+)?):(?P<api>[A-Za-z0-9]+(?:\.sync(?::2)?)?)"
)


class TaskError(Exception):
    """Report a failed task. Retry and Catch match ``error``; ``cause`` is text or JSON for readers."""

    def __init__(self, error: str, cause: str = "") -> None:
        super().__init__(f"{error}: {cause}" if cause else error)
        self.error = error
        self.cause = cause


class TaskTimeout(TaskError):
    """Report that a task was stopped after ``timeout_seconds``. Retry and Catch match ``States.Timeout``."""

    def __init__(self, cause: str = "") -> None:
        super().__init__("States.Timeout", cause)


class TaskService(Protocol):
    """Run the tasks of one service integration, such as ``arn:aws:states:::glue:startJobRun.sync``, locally.

    A service returns the task's result (any JSON value), or raises ``TaskError`` or ``TaskTimeout``. Any other
    exception is a fault of the service: it ends the interpreter as a kill does, and the execution can be resumed. Map
    states call services from several threads at once.
    """

    def __call__(self, resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Heartbeat) -> Any:
        """Run the task.

        Parameters
        ----------
        resource : str
            The Resource ARN of the state.
        arguments : Any
            The evaluated Arguments of the state.
        timeout_seconds : float, optional
            The remaining time of the state and the execution; None for no limit.
        heartbeat : callable
            Call it about once a second while waiting.
        """


def split_resource(resource: str) -> Optional[Tuple[str, str]]:
    """Split a Resource ARN into type and API as in history events; None if it is no service integration.

    ``arn:aws:states:::aws-sdk:s3:getObject`` gives ``("aws-sdk:s3", "getObject")``.
    """
    match = _RESOURCE.fullmatch(resource)
    return (match["type"], match["api"]) if match else None
