"""What stands behind a Task state's Resource: the protocol of a task service, and how a task says that it failed."""

from __future__ import annotations

import re
from typing import Any, Callable, Optional, Protocol, Tuple

Heartbeat = Callable[[], None]
"""Raises when the execution is being stopped, so that waiting on is pointless; a service stops its work and lets it
through."""

_RESOURCE = re.compile(
    r"arn:aws[a-z-]*:states:[a-z0-9-]*:[0-9]*:"
    r"(?P<type>[A-Za-z0-9-]+(?::[A-Za-z0-9-]+)?):(?P<api>[A-Za-z0-9]+(?:\.sync(?::2)?)?)"
)


class TaskError(Exception):
    """The task failed: ``error`` is the name that Retry and Catch match, ``cause`` is free text or JSON for people."""

    def __init__(self, error: str, cause: str = "") -> None:
        super().__init__(f"{error}: {cause}" if cause else error)
        self.error = error
        self.cause = cause


class TaskTimeout(TaskError):
    """The task was not done within ``timeout_seconds`` and has been stopped; Retry and Catch see ``States.Timeout``."""

    def __init__(self, cause: str = "") -> None:
        super().__init__("States.Timeout", cause)


class TaskService(Protocol):
    """One integration, such as ``arn:aws:states:::glue:startJobRun.sync``, done locally.

    A service returns the task's result (any JSON value), or raises ``TaskError`` or ``TaskTimeout``. Any other
    exception is a fault of the service itself: it leaves the interpreter as a kill would, and the journal can be
    resumed. Services of tasks inside a Map state are called from several threads at once.
    """

    def __call__(self, resource: str, arguments: Any, *, timeout_seconds: Optional[float], heartbeat: Heartbeat) -> Any:
        """Do the task.

        ``arguments`` is the state's evaluated Arguments; ``timeout_seconds`` what is left of the state's and the
        execution's time (None: no limit); ``heartbeat`` is to be called every second or so while waiting.
        """


def split_resource(resource: str) -> Optional[Tuple[str, str]]:
    """Return a Resource's type and API as history events name them, or None when it is not a service integration.

    ``arn:aws:states:::aws-sdk:s3:getObject`` gives ``("aws-sdk:s3", "getObject")``.
    """
    match = _RESOURCE.fullmatch(resource)
    return (match["type"], match["api"]) if match else None
