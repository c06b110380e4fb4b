"""Follow executions on AWS to their end, event by event.

The events have the same form as those of local executions, so the same listeners work for both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from asl_local import Clock, SystemClock, get_event_details
from asl_local.history import STATUS_BY_END_EVENT
from daybook.errors import AwsError
from daybook.execution.aws.executions import EventReader, ExecutionInfo, Executions

Listener = Callable[[Mapping[str, Any]], None]
ChildListener = Callable[[str, Mapping[str, Any]], None]
"""Called with the name of a child execution and each of its events."""

MIN_POLL_SECONDS, MAX_POLL_SECONDS = 1.0, 10.0
"""Seconds between two polls: the minimum after new events, then 1.5 times longer after each poll without any."""
_MAX_POLLS_AFTER_END = 3
"""Maximum polls of an ended execution whose last event is not visible yet."""


@dataclass
class _FollowedExecution:
    machine: str
    name: str
    pages: EventReader
    listener: Optional[Listener]
    ended: bool = False


@dataclass
class Follower:
    """Follow one execution and, for a backfill, its runs, and for a range, the runs of its halves.

    ``events`` are those of the execution itself.
    """

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
        """Wait for the end, pass all events to the listeners and return the ended execution.

        With ``redriven``, events from before the redrive are not passed on.
        """
        own = _FollowedExecution(self.machine, self.name, self.executions.events(self.machine, self.name), self._handle_event)
        if self.redriven:
            self.events.extend(own.pages.read())
        pause, polls_after_end = MIN_POLL_SECONDS, 0
        while True:
            news = self._read(own)
            for child in [each for each in self._children.values() if not each.ended]:
                news |= self._read(child)
            if own.ended:
                return self._finish()
            pause = MIN_POLL_SECONDS if news else min(pause * 1.5, MAX_POLL_SECONDS)
            if not news and not self._require_info().is_running:
                # The history lags behind the status, and may lack the last event for ever.
                polls_after_end += 1
                if polls_after_end >= _MAX_POLLS_AFTER_END:
                    return self._finish()
            self.clock.sleep(pause)

    def _read(self, branch: _FollowedExecution) -> bool:
        """Pass new events to the listener; return whether there were any."""
        news = False
        for event in branch.pages.read():
            news = True
            branch.ended = event["type"] in STATUS_BY_END_EVENT
            if branch.listener is not None:
                branch.listener(event)
        return news

    def _handle_event(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)
        self._follow_children(event)
        if self.listener is not None:
            self.listener(event)

    def _follow_children(self, event: Mapping[str, Any]) -> None:
        """Follow an execution that this event starts, and read the last events of one that it ends."""
        started, ended = _find_started_execution(event), _find_ended_run(event)
        if started is not None and started[1] not in self._children:
            self._children[started[1]] = self._follow_child(*started)
        child = self._children.get(ended) if ended else None
        if child is not None and not child.ended:
            self._read(child)
            child.ended = True

    def _follow_child(self, machine: str, name: str) -> _FollowedExecution:
        def on_event(event: Mapping[str, Any]) -> None:
            self._follow_children(event)
            if machine == "backfill":
                # The backfill of a catch-up: its events go to the main listener.
                if self.listener is not None:
                    self.listener(event)
            elif self.child_listener is not None:
                self.child_listener(name, event)

        return _FollowedExecution(machine, name, self.executions.events(machine, name), on_event)

    def _require_info(self) -> ExecutionInfo:
        found = self.executions.find(self.machine, self.name)
        if found is None:
            raise AwsError(f"The execution {self.name} no longer exists; see its record with `daybook show`.")
        return found

    def _finish(self) -> ExecutionInfo:
        for child in list(self._children.values()):
            if not child.ended:
                self._read(child)
        return self._require_info()


def _find_started_execution(event: Mapping[str, Any]) -> Optional[tuple[str, str]]:
    """Return the machine and name of the execution that this event's state starts; None if it starts none."""
    if event["type"] != "TaskStateEntered":
        return None
    details = get_event_details(dict(event))
    if details["name"] in ("RunRange", "RunHalf"):
        return "daily", json.loads(details["input"])["run_id"]
    if details["name"] == "Backfill":
        return "backfill", json.loads(details["input"])["backfill_id"]
    return None


def _find_ended_run(event: Mapping[str, Any]) -> str:
    """Return the name of the run whose end this event of its parent reports; empty if it reports none."""
    details = get_event_details(dict(event))
    if event["type"] in ("ChoiceStateEntered", "PassStateEntered") and details["name"] in ("RangeEnded", "HalfEnded"):
        return str(json.loads(details["input"])["run_id"])
    return ""
