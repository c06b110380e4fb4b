"""Following executions on AWS to their end, event by event, as if they ran here.

Events come in the form that this project's own histories have, which is Step Functions', so that one listener serves both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from asl_local import Clock, SystemClock, get_event_details
from asl_local.replay import STATUS_BY_END_EVENT
from daybook.errors import AwsError
from daybook.execution.aws.executions import EventReader, ExecutionInfo, Executions

Listener = Callable[[Mapping[str, Any]], None]
ChildListener = Callable[[str, Mapping[str, Any]], None]
"""Is told the name of an execution that the followed one started, and each of its events."""

MIN_POLL_SECONDS, MAX_POLL_SECONDS = 1.0, 10.0
"""Between two looks: the first while something happens, and half as long again after each look that finds nothing new."""
_MAX_POLLS_AFTER_END = 3
"""So many looks in a row may find an execution that has ended without its last event, which comes a moment later."""


@dataclass
class _FollowedExecution:
    machine: str
    name: str
    pages: EventReader
    listener: Optional[Listener]
    ended: bool = False


@dataclass
class Follower:
    """One execution and, of a backfill, the runs of its dates; ``events`` are its own, all that there are by the end."""

    executions: Executions
    machine: str
    name: str
    listener: Optional[Listener] = None
    child_listener: Optional[ChildListener] = None
    clock: Clock = field(default_factory=SystemClock)
    redriven: bool = False
    events: list[Mapping[str, Any]] = field(default_factory=list)
    _children: dict[str, _FollowedExecution] = field(default_factory=dict)

    def follow(self) -> ExecutionInfo:
        """Wait for the end and tell of everything on the way; returns how it ended.

        With ``redriven``, what was there before the execution went on again is not told once more.
        """
        own = _FollowedExecution(self.machine, self.name, self.executions.events(self.machine, self.name), self._hear)
        if self.redriven:
            self.events.extend(own.pages.read())
        pause, looks = MIN_POLL_SECONDS, 0
        while True:
            news = self._read(own)
            for child in [each for each in self._children.values() if not each.ended]:
                news |= self._read(child)
            if own.ended:
                return self._ended()
            pause = MIN_POLL_SECONDS if news else min(pause * 1.5, MAX_POLL_SECONDS)
            if not news and not self._found().running:
                # Its history is a moment behind; one that never tells its end has ended all the same.
                looks += 1
                if looks >= _MAX_POLLS_AFTER_END:
                    return self._ended()
            self.clock.sleep(pause)

    def _read(self, branch: _FollowedExecution) -> bool:
        """Tell of what has happened since the last look; whether there was anything."""
        news = False
        for event in branch.pages.read():
            news = True
            branch.ended = event["type"] in STATUS_BY_END_EVENT
            if branch.listener is not None:
                branch.listener(event)
        return news

    def _hear(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)
        self._follow_children(event)
        if self.listener is not None:
            self.listener(event)

    def _follow_children(self, event: Mapping[str, Any]) -> None:
        """Begin to follow what this event starts, and come to the end of what it ends: its last event comes first."""
        started, ended = _find_started_execution(event), _find_ended_run(event)
        if started is not None and started[1] not in self._children:
            self._children[started[1]] = self._follow_child(*started)
        child = self._children.get(ended) if ended else None
        if child is not None and not child.ended:
            self._read(child)
            child.ended = True

    def _follow_child(self, machine: str, name: str) -> _FollowedExecution:
        def tell(event: Mapping[str, Any]) -> None:
            if machine == "backfill":
                # Of a catch-up: its dates are followed too, and what it says of them is shown as the backfill's.
                self._follow_children(event)
                if self.listener is not None:
                    self.listener(event)
            elif self.child_listener is not None:
                self.child_listener(name, event)

        return _FollowedExecution(machine, name, self.executions.events(machine, name), tell)

    def _found(self) -> ExecutionInfo:
        found = self.executions.find(self.machine, self.name)
        if found is None:
            raise AwsError(f"There is no execution {self.name} any more; look at it in the archive, with `daybook show`.")
        return found

    def _ended(self) -> ExecutionInfo:
        for child in self._children.values():
            if not child.ended:
                self._read(child)
        return self._found()


def _find_started_execution(event: Mapping[str, Any]) -> Optional[tuple[str, str]]:
    """The machine and name of an execution that this event's state is about to start; None where it starts none."""
    if event["type"] != "TaskStateEntered":
        return None
    details = get_event_details(dict(event))
    if details["name"] == "RunDate":
        return "daily", json.loads(details["input"])["run_id"]
    if details["name"] == "Backfill":
        return "backfill", json.loads(details["input"])["backfill_id"]
    return None


def _find_ended_run(event: Mapping[str, Any]) -> str:
    """The name of a date's run that has ended, as this event of the backfill tells; empty where it tells of none."""
    details = get_event_details(dict(event))
    if event["type"] == "ChoiceStateEntered" and details["name"] == "DateEnded":
        return str(json.loads(details["input"])["run_id"])
    return ""
