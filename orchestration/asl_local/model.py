"""Define the typed, immutable model of a state machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Mapping, Optional, Tuple, Union

from asl_local.template import Template


@dataclass(frozen=True)
class Finding:
    """Describe an error in a state machine file. ``state`` is empty if it concerns the whole machine."""

    state: str
    message: str

    def __str__(self) -> str:
        return f'state "{self.state}": {self.message}' if self.state else self.message


@dataclass(frozen=True)
class Retrier:
    """One entry of a Retry field, with the defaults of Step Functions."""

    error_equals: Tuple[str, ...]
    interval_seconds: int = 1
    max_attempts: int = 3
    backoff_rate: float = 2.0
    max_delay_seconds: Optional[int] = None
    full_jitter: bool = False


@dataclass(frozen=True)
class Catcher:
    """One entry of a Catch field."""

    error_equals: Tuple[str, ...]
    next: str
    assign: Optional[Template] = None
    output: Optional[Template] = None


@dataclass(frozen=True)
class ChoiceRule:
    """One entry of a Choices field."""

    condition: Template
    next: str
    assign: Optional[Template] = None
    output: Optional[Template] = None


@dataclass(frozen=True)
class PassState:
    name: str
    next: Optional[str]
    assign: Optional[Template]
    output: Optional[Template]
    type: str = "Pass"


@dataclass(frozen=True)
class WaitState:
    """A Wait state. Exactly one of ``seconds`` and ``timestamp`` is set."""

    name: str
    next: Optional[str]
    assign: Optional[Template]
    output: Optional[Template]
    seconds: Optional[Template]
    timestamp: Optional[Template]
    type: str = "Wait"


@dataclass(frozen=True)
class TaskState:
    name: str
    next: Optional[str]
    assign: Optional[Template]
    output: Optional[Template]
    resource: str
    arguments: Optional[Template]
    timeout_seconds: Optional[Template]
    retry: Tuple[Retrier, ...]
    catch: Tuple[Catcher, ...]
    type: str = "Task"


@dataclass(frozen=True)
class MapState:
    name: str
    next: Optional[str]
    assign: Optional[Template]
    output: Optional[Template]
    items: Optional[Template]
    item_selector: Optional[Template]
    max_concurrency: Optional[Template]
    processor: Workflow
    retry: Tuple[Retrier, ...]
    catch: Tuple[Catcher, ...]
    type: str = "Map"


@dataclass(frozen=True)
class ChoiceState:
    name: str
    rules: Tuple[ChoiceRule, ...]
    default: Optional[str]
    type: str = "Choice"


@dataclass(frozen=True)
class SucceedState:
    name: str
    output: Optional[Template]
    type: str = "Succeed"


@dataclass(frozen=True)
class FailState:
    name: str
    error: Optional[Template]
    cause: Optional[Template]
    type: str = "Fail"


State = Union[PassState, WaitState, TaskState, MapState, ChoiceState, SucceedState, FailState]


@dataclass(frozen=True)
class Workflow:
    """The states and the start state of a machine or of a Map state's ItemProcessor."""

    start_at: str
    states: Mapping[str, State]

    def iter_states(self) -> Iterator[State]:
        """Yield every state, including those inside Map states."""
        for state in self.states.values():
            yield state
            if isinstance(state, MapState):
                yield from state.processor.iter_states()


def list_successors(state: State) -> Tuple[str, ...]:
    """Return the names of the states that can follow ``state``, in file order."""
    names: Tuple[Optional[str], ...]
    if isinstance(state, ChoiceState):
        names = (*(rule.next for rule in state.rules), state.default)
    elif isinstance(state, (TaskState, MapState)):
        names = (state.next, *(catcher.next for catcher in state.catch))
    elif isinstance(state, (PassState, WaitState)):
        names = (state.next,)
    else:
        names = ()
    return tuple(name for name in names if name is not None)
