"""Define the supported subset of the Amazon States Language as typed, immutable models.

A model rejects fields that it does not know and values of the wrong type. ``parse_definition`` also checks what concerns
several states.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any, Dict, FrozenSet, Iterator, List, Literal, Optional, Set, Tuple, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator
from pydantic.alias_generators import to_pascal
from pydantic_core import ErrorDetails
from typing_extensions import Self

from asl_local.tasks import split_resource
from asl_local.template import ARRAY, BOOLEAN, COUNT, STRING, Template

KNOWN_ERRORS = frozenset(
    "States." + name
    for name in (
        *("ALL", "BranchFailed", "DataLimitExceeded", "HeartbeatTimeout", "NoChoiceMatched", "Permissions"),
        *("QueryEvaluationError", "Runtime", "TaskFailed", "Timeout"),
    )
)
MAX_NAME_LENGTH = 80
MAX_SECONDS = 99_999_999

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")


@dataclass(frozen=True)
class Finding:
    """Describe an error in a state machine file. ``state`` is empty if it concerns the whole machine."""

    state: str
    message: str

    def __str__(self) -> str:
        return f'state "{self.state}": {self.message}' if self.state else self.message


def _parse_condition(value: Any) -> Template:
    template = Template(value, BOOLEAN)
    if not template.is_expression:
        raise ValueError("must be a JSONata expression, {% … %}")
    return template


def _parse_assign(value: Any) -> Template:
    if not isinstance(value, dict):
        raise ValueError("must be an object of variable names and values")
    for name in value:
        if not _VARIABLE_NAME.fullmatch(name) or name == "states":
            raise ValueError(f"cannot set {name!r}; use letters, digits and _, and not the name states")
    return Template(value)


def _require_known_error(name: str) -> str:
    if name.startswith("States.") and name not in KNOWN_ERRORS:
        raise ValueError(f"is the unknown error {name}; the States errors are {', '.join(sorted(KNOWN_ERRORS))}")
    return name


def _require_integration(resource: str) -> str:
    if split_resource(resource) is None:
        raise ValueError("must be a service integration such as arn:aws:states:::glue:startJobRun.sync")
    return resource


def _require_last_wildcard(handlers: List[Any]) -> List[Any]:
    for index, handler in enumerate(handlers):
        if "States.ALL" in handler.error_equals and (len(handler.error_equals) > 1 or index < len(handlers) - 1):
            raise ValueError(f"States.ALL in entry {index} must be the only error, in the last entry")
    return handlers


_Assign = Annotated[Optional[Template], PlainValidator(_parse_assign)]
_Json = Annotated[Optional[Template], PlainValidator(Template)]
_String = Annotated[Optional[Template], PlainValidator(lambda value: Template(value, STRING))]
_ErrorNames = Annotated[List[Annotated[str, AfterValidator(_require_known_error)]], Field(min_length=1)]
_JSON_FIELDS = ("Arguments", "Output")
_Seconds = Annotated[int, Field(ge=1, le=MAX_SECONDS)]


class _Model(BaseModel):
    """Read fields by their names in the language, such as ``ErrorEquals`` for ``error_equals``."""

    model_config = ConfigDict(
        alias_generator=to_pascal,
        arbitrary_types_allowed=True,
        defer_build=True,
        frozen=True,
        strict=True,
    )

    comment: Optional[str] = None

    @model_validator(mode="before")
    @classmethod
    def _check_fields(cls, raw: Any) -> Any:
        allowed = sorted(map(to_pascal, cls.model_fields))
        for name, value in raw.items() if isinstance(raw, dict) else ():
            if name not in allowed:
                raise ValueError(f"the field {name} is not allowed here; allowed are {', '.join(allowed)}")
            if value is None and name not in _JSON_FIELDS:
                raise ValueError(f"the field {name} is null; give a value or leave the field out")
        return raw


class Retrier(_Model):
    """One entry of a Retry field, with the defaults of Step Functions."""

    error_equals: _ErrorNames
    interval_seconds: _Seconds = 1
    max_attempts: int = Field(default=3, ge=0, le=MAX_SECONDS)
    backoff_rate: float = Field(default=2.0, ge=1)
    max_delay_seconds: Optional[int] = Field(default=None, ge=1, le=31_622_400)
    jitter_strategy: Literal["FULL", "NONE"] = "NONE"

    @model_validator(mode="after")
    def _check_delays(self) -> Self:
        if self.max_delay_seconds is not None and self.max_delay_seconds <= self.interval_seconds:
            raise ValueError("MaxDelaySeconds must be above IntervalSeconds")
        return self


class Step(_Model):
    """What is evaluated on the way to the next state."""

    next: Optional[str] = None
    assign: _Assign = None
    output: _Json = None


class Catcher(Step):
    """One entry of a Catch field."""

    next: str
    error_equals: _ErrorNames


class ChoiceRule(Step):
    """One entry of a Choices field."""

    next: str
    condition: Annotated[Template, PlainValidator(_parse_condition)]


class _FlowState(Step):
    """A state that has a next state or ends its workflow."""

    end: Optional[bool] = None

    @model_validator(mode="after")
    def _check_next(self) -> Self:
        if self.end is not (True if self.next is None else None):
            raise ValueError('the state must have exactly one of Next and "End": true')
        return self


class PassState(_FlowState):
    type: Literal["Pass"]


class _RetryState(_FlowState):
    retry: Annotated[List[Retrier], AfterValidator(_require_last_wildcard)] = []
    catch: Annotated[List[Catcher], AfterValidator(_require_last_wildcard)] = []


class TaskState(_RetryState):
    type: Literal["Task"]
    resource: Annotated[str, AfterValidator(_require_integration)]
    arguments: _Json = Template({})
    timeout_seconds: Optional[_Seconds] = None


class MapState(_RetryState):
    type: Literal["Map"]
    items: Annotated[Template, PlainValidator(lambda value: Template(value, ARRAY))] = Template("{% $states.input %}", ARRAY)
    max_concurrency: Annotated[Template, PlainValidator(lambda value: Template(value, COUNT))] = Template(0, COUNT)
    item_processor: ItemProcessor


class ChoiceState(_Model):
    """A Choice state.

    Documentation differs on whether Assign and Output of a Choice state also apply to its rules. Only rules may have them.
    """

    type: Literal["Choice"]
    choices: List[ChoiceRule] = Field(min_length=1)
    default: Optional[str] = None


class SucceedState(_Model):
    type: Literal["Succeed"]
    output: _Json = None


class FailState(_Model):
    type: Literal["Fail"]
    error: _String = None
    cause: _String = None


State = Union[PassState, TaskState, MapState, ChoiceState, SucceedState, FailState]
_NO_TYPE = "Type must be one of Choice, Fail, Map, Pass, Succeed, Task"
_MESSAGES = {
    "missing": "is missing",
    "too_short": "must have at least one entry",
    "list_type": "must be a JSON array",
    "dict_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "union_tag_invalid": _NO_TYPE,
    "union_tag_not_found": _NO_TYPE,
}
"""Messages for errors that pydantic describes in terms of Python."""


class Workflow(_Model):
    """The states and the start state of a machine or of a Map state's ItemProcessor."""

    start_at: str
    states: Dict[str, Annotated[State, Field(discriminator="type")]] = Field(min_length=1)

    def iter_states(self) -> Iterator[Tuple[str, State]]:
        """Yield the name and model of every state, including those inside Map states."""
        for name, state in self.states.items():
            yield name, state
            if isinstance(state, MapState):
                yield from state.item_processor.iter_states()


class ProcessorConfig(_Model):
    mode: Literal["INLINE"]


class ItemProcessor(Workflow):
    processor_config: Optional[ProcessorConfig] = None


class Definition(Workflow):
    """The content of a state machine file."""

    query_language: Literal["JSONata"]
    version: Literal["1.0"] = "1.0"
    timeout_seconds: Optional[_Seconds] = None


def parse_definition(raw: Any) -> Tuple[Optional[Definition], List[Finding]]:
    """Return the model of ``raw``, the JSON of a file, and the errors in it. One with findings must not be run.

    Errors between states, such as an unknown next state, are found only if every state is valid by itself.
    """
    try:
        definition = Definition.model_validate(raw)
    except ValidationError as error:
        return None, [_describe_error(each) for each in error.errors(include_url=False)]
    names = Counter(name for name, _ in definition.iter_states())
    findings = [
        Finding(name, f"a state's name must be unique in the file and 1 to {MAX_NAME_LENGTH} characters long")
        for name, count in names.items()
        if count > 1 or not 0 < len(name) <= MAX_NAME_LENGTH
    ]
    return definition, [*findings, *_check_workflow(definition, "", frozenset())]


def _describe_error(error: ErrorDetails) -> Finding:
    state, path = "", ""
    location = iter(error["loc"])
    for part in location:
        name = next(location, None) if part == "States" else None
        if name is not None:
            state, path = str(name), ""
            next(location, None)  # the type of the state
        elif isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f"/{part}" if path else part
    message = _MESSAGES.get(error["type"]) or error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return Finding(state, f"{path}: {message}" if path else message)


def _check_workflow(workflow: Workflow, owner: str, outer_variables: FrozenSet[str]) -> Iterator[Finding]:
    """Yield errors in the transitions and variables of a workflow. ``owner`` is the Map state that contains it."""
    states, names = workflow.states, ", ".join(workflow.states)
    templates = [(name, *found) for name, state in states.items() for found in _iter_templates(state)]
    assigned = {
        (name, variable) for name, path, template in templates if path.endswith("Assign") for variable in template.value
    }
    variables = outer_variables | {variable for _, variable in assigned}
    for name, variable in sorted(assigned):
        if variable in outer_variables:
            yield Finding(name, f"Assign sets ${variable}, a variable of the states outside this Map; use another name")
    known = ", ".join(f"${variable}" for variable in sorted(variables)) or "none"
    for name, path, template in templates:
        for variable in sorted(template.free_variables - variables):
            yield Finding(name, f"{path} uses the unassigned variable ${variable}; the variables here are {known}")
    for name, state in states.items():
        for target in _list_successors(state):
            if target not in states:
                yield Finding(name, f'the next state "{target}" does not exist; the states here are {names}')
        if isinstance(state, MapState):
            yield from _check_workflow(state.item_processor, name, variables)
    if workflow.start_at not in states:
        yield Finding(owner, f"StartAt must name one of {names}")
        return
    reached: Set[str] = set()
    pending = [workflow.start_at]
    while pending:
        name = pending.pop()
        if name in states and name not in reached:
            reached.add(name)
            pending.extend(_list_successors(states[name]))
    for name in states:
        if name not in reached:
            yield Finding(name, "the state is unreachable; remove it or name it in a Next, Default or Catch")


def _iter_templates(model: _Model, prefix: str = "") -> Iterator[Tuple[str, Template]]:
    """Yield the path and content of each template of a state, without those inside a Map state."""
    for name, value in model:
        if isinstance(value, Template):
            yield f"{prefix}{to_pascal(name)}", value
        elif name in ("catch", "choices"):
            for index, entry in enumerate(value):
                yield from _iter_templates(entry, f"{to_pascal(name)}[{index}]/")


def _list_successors(state: State) -> List[str]:
    """Return the names of the states that can follow ``state``."""
    if isinstance(state, ChoiceState):
        names = [*(rule.next for rule in state.choices), state.default]
    elif isinstance(state, _RetryState):
        names = [state.next, *(catcher.next for catcher in state.catch)]
    else:
        names = [state.next if isinstance(state, PassState) else None]
    return [name for name in names if name is not None]
