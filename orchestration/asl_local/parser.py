"""Parse and check the JSON of a state machine."""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Set, Tuple, TypeVar

from asl_local.model import (
    Catcher,
    ChoiceRule,
    ChoiceState,
    FailState,
    Finding,
    MapState,
    PassState,
    Retrier,
    State,
    SucceedState,
    TaskState,
    WaitState,
    Workflow,
    list_successors,
)
from asl_local.tasks import split_resource
from asl_local.template import ExpressionError, Template

MACHINE_FIELDS = ("Comment", "QueryLanguage", "StartAt", "States", "TimeoutSeconds", "Version")
PROCESSOR_FIELDS = ("Comment", "ProcessorConfig", "StartAt", "States")
STATE_FIELDS: Mapping[str, Tuple[str, ...]] = {
    # Documentation differs on whether Assign and Output of a Choice state also apply to its rules. Only rules may have them.
    "Choice": ("Choices", "Comment", "Default", "Type"),
    "Fail": ("Cause", "Comment", "Error", "Type"),
    "Map": (
        *("Assign", "Catch", "Comment", "End", "ItemProcessor", "ItemSelector", "Items", "MaxConcurrency", "Next"),
        *("Output", "Retry", "Type"),
    ),
    "Pass": ("Assign", "Comment", "End", "Next", "Output", "Type"),
    "Succeed": ("Comment", "Output", "Type"),
    "Task": (
        *("Arguments", "Assign", "Catch", "Comment", "End", "Next", "Output", "Resource", "Retry", "TimeoutSeconds"),
        "Type",
    ),
    "Wait": ("Assign", "Comment", "End", "Next", "Output", "Seconds", "Timestamp", "Type"),
}
RETRIER_FIELDS = (
    *("BackoffRate", "Comment", "ErrorEquals", "IntervalSeconds", "JitterStrategy", "MaxAttempts", "MaxDelaySeconds"),
)
CATCHER_FIELDS = ("Assign", "Comment", "ErrorEquals", "Next", "Output")
RULE_FIELDS = ("Assign", "Comment", "Condition", "Next", "Output")
KNOWN_ERRORS = frozenset(
    "States." + name
    for name in (
        *("ALL", "BranchFailed", "DataLimitExceeded", "HeartbeatTimeout", "NoChoiceMatched", "Permissions"),
        *("QueryEvaluationError", "Runtime", "TaskFailed", "Timeout"),
    )
)
MAX_NAME_LENGTH = 80

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")
_Entry = TypeVar("_Entry")
_JsonObject = Dict[str, Any]


def parse_machine(raw: Any) -> Tuple[Optional[Workflow], List[Finding]]:
    """Return the workflow in ``raw``, the JSON of a file, and all errors in it. One with findings must not be run."""
    parser = _Parser()
    return parser.parse(raw), parser.findings


class _Parser:
    """Build the model from JSON. It collects all findings instead of stopping at the first."""

    def __init__(self) -> None:
        self.findings: List[Finding] = []
        self._state = ""
        self._names: Set[str] = set()

    def parse(self, raw: Any) -> Optional[Workflow]:
        if not isinstance(raw, dict):
            self.add_finding("a state machine is a JSON object")
            return None
        self._check_fields(raw, MACHINE_FIELDS)
        if raw.get("QueryLanguage") != "JSONata":
            self.add_finding('QueryLanguage must be "JSONata"')
        if raw.get("Version", "1.0") != "1.0":
            self.add_finding('Version must be "1.0"')
        timeout = raw.get("TimeoutSeconds")
        if timeout is not None and not _is_integer_between(timeout, 1, 99_999_999):
            self.add_finding("TimeoutSeconds must be a whole number of 1 or more")
        return self._parse_workflow(raw, frozenset())

    # -- workflows and states -------------------------------------------------------------------------------------

    def _parse_workflow(self, raw: _JsonObject, outer_variables: FrozenSet[str]) -> Optional[Workflow]:
        owner = self._state
        states = raw.get("States")
        if not isinstance(states, dict) or not states:
            self.add_finding("States must be an object with at least one state")
            return None
        variables = outer_variables | _assigned_variables(states)
        model: Dict[str, State] = {}
        for name, raw_state in states.items():
            self._state = name
            if name in self._names or not 0 < len(name) <= MAX_NAME_LENGTH:
                self.add_finding(f"a state's name must be unique in the file and 1 to {MAX_NAME_LENGTH} characters long")
            self._names.add(name)
            state = self._parse_state(name, raw_state, variables, outer_variables)
            if state is not None:
                model[name] = state
        self._check_transitions(raw.get("StartAt"), states, model, owner)
        self._state = owner
        return Workflow(str(raw.get("StartAt")), model)

    def _check_transitions(self, start: Any, states: _JsonObject, model: Mapping[str, State], owner: str) -> None:
        allowed = ", ".join(states)
        for name, state in model.items():
            self._state = name
            for target in list_successors(state):
                if target not in states:
                    self.add_finding(f'the next state "{target}" does not exist; the states here are {allowed}')
        self._state = owner
        if start not in states:
            self.add_finding(f"StartAt must name one of {allowed}")
            return
        reached, pending = set(), [start]
        while pending:
            name = pending.pop()
            if name not in reached:
                reached.add(name)
                pending.extend(list_successors(model[name]) if name in model else ())
        for name in states:
            # The successors of an invalid state are unknown, so reachability is checked only if all states are valid.
            if name not in reached and len(model) == len(states):
                self._state = name
                self.add_finding("the state is unreachable; remove it or name it in a Next, Default or Catch")
        self._state = owner

    def _parse_state(self, name: str, raw: Any, variables: FrozenSet[str], outer_variables: FrozenSet[str]) -> Optional[State]:
        kind = raw.get("Type") if isinstance(raw, dict) else None
        if not isinstance(kind, str) or kind not in STATE_FIELDS:
            self.add_finding(f"Type must be one of {', '.join(STATE_FIELDS)}, not {json.dumps(kind)}")
            return None
        self._check_fields(raw, STATE_FIELDS[kind])
        fields = _FieldParser(self, raw, variables, outer_variables)
        if kind == "Choice":
            return ChoiceState(
                name, self._parse_entries(raw, "Choices", fields, self._parse_rule, required=True), raw.get("Default")
            )
        if kind == "Succeed":
            return SucceedState(name, fields.parse_template("Output"))
        if kind == "Fail":
            return FailState(name, fields.parse_string("Error"), fields.parse_string("Cause"))
        flow = (name, self._parse_next(raw), fields.parse_assign(), fields.parse_template("Output"))
        if kind == "Pass":
            return PassState(*flow)
        if kind == "Wait":
            if ("Seconds" in raw) == ("Timestamp" in raw):
                self.add_finding("a Wait state has exactly one of Seconds and Timestamp")
            return WaitState(*flow, fields.parse_integer("Seconds", 0, 99_999_999), fields.parse_string("Timestamp"))
        retry = self._parse_entries(raw, "Retry", fields, self._parse_retrier)
        catch = self._parse_entries(raw, "Catch", fields, self._parse_catcher)
        self._check_wildcards("Retry", [retrier.error_equals for retrier in retry])
        self._check_wildcards("Catch", [catcher.error_equals for catcher in catch])
        if kind == "Task":
            resource = raw.get("Resource")
            if not isinstance(resource, str) or split_resource(resource) is None:
                self.add_finding("Resource must be a service integration such as arn:aws:states:::glue:startJobRun.sync")
                return None
            timeout = fields.parse_integer("TimeoutSeconds", 1, 99_999_999)
            return TaskState(*flow, resource, fields.parse_template("Arguments"), timeout, retry, catch)
        processor = self._parse_processor(raw.get("ItemProcessor"), variables)
        if processor is None:
            return None
        items = fields.parse_template("Items")
        if items is not None and not items.is_expression and not isinstance(items.value, list):
            self.add_finding("Items must be an array or a JSONata expression that returns one")
        selector, concurrency = fields.parse_template("ItemSelector"), fields.parse_integer("MaxConcurrency", 0, 99_999_999)
        return MapState(*flow, items, selector, concurrency, processor, retry, catch)

    def _parse_processor(self, raw: Any, variables: FrozenSet[str]) -> Optional[Workflow]:
        if not isinstance(raw, dict):
            self.add_finding("a Map state needs an ItemProcessor object")
            return None
        self._check_fields(raw, PROCESSOR_FIELDS, "ItemProcessor")
        if raw.get("ProcessorConfig", {"Mode": "INLINE"}) != {"Mode": "INLINE"}:
            self.add_finding('ItemProcessor/ProcessorConfig must be {"Mode": "INLINE"}')
        return self._parse_workflow(raw, variables)

    def _parse_next(self, raw: _JsonObject) -> Optional[str]:
        next_state = raw.get("Next")
        if ("Next" in raw) == ("End" in raw) or raw.get("End", True) is not True:
            self.add_finding('the state must have exactly one of Next and "End": true')
        if next_state is not None and not isinstance(next_state, str):
            self.add_finding("Next must name a state")
            return None
        return next_state

    # -- entries of Retry, Catch and Choices ----------------------------------------------------------------------

    def _parse_entries(
        self,
        raw: _JsonObject,
        field: str,
        fields: _FieldParser,
        parse_entry: Callable[[_JsonObject, str, _FieldParser], Optional[_Entry]],
        required: bool = False,
    ) -> Tuple[_Entry, ...]:
        entries = raw.get(field, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self.add_finding(f"{field} must be an array of objects")
            return ()
        if required and not entries:
            self.add_finding(f"{field} must have at least one entry")
        parsed = (parse_entry(entry, f"{field}[{index}]", fields) for index, entry in enumerate(entries))
        return tuple(entry for entry in parsed if entry is not None)

    def _parse_rule(self, raw: _JsonObject, where: str, fields: _FieldParser) -> Optional[ChoiceRule]:
        self._check_fields(raw, RULE_FIELDS, where)
        inner = fields.for_entry(raw, where)
        condition, next_state = inner.parse_template("Condition"), raw.get("Next")
        if condition is None or not condition.is_expression:
            self.add_finding(f"{where}/Condition must be a JSONata expression, {{% … %}}")
            return None
        if not isinstance(next_state, str):
            self.add_finding(f"{where}/Next must name a state")
            return None
        return ChoiceRule(condition, next_state, inner.parse_assign(), inner.parse_template("Output"))

    def _parse_catcher(self, raw: _JsonObject, where: str, fields: _FieldParser) -> Optional[Catcher]:
        self._check_fields(raw, CATCHER_FIELDS, where)
        inner = fields.for_entry(raw, where)
        if not isinstance(raw.get("Next"), str):
            self.add_finding(f"{where}/Next must name a state")
            return None
        return Catcher(self._parse_error_equals(raw, where), raw["Next"], inner.parse_assign(), inner.parse_template("Output"))

    def _parse_retrier(self, raw: _JsonObject, where: str, fields: _FieldParser) -> Optional[Retrier]:
        self._check_fields(raw, RETRIER_FIELDS, where)
        interval, attempts = raw.get("IntervalSeconds", 1), raw.get("MaxAttempts", 3)
        rate, max_delay = raw.get("BackoffRate", 2.0), raw.get("MaxDelaySeconds")
        errors = {
            "IntervalSeconds must be a whole number of 1 or more": not _is_integer_between(interval, 1, 99_999_999),
            "MaxAttempts must be a whole number from 0 to 99999999": not _is_integer_between(attempts, 0, 99_999_999),
            "BackoffRate must be a number of 1 or more": not _is_number(rate) or rate < 1,
            "MaxDelaySeconds must be a whole number from 1 to 31622400, and above IntervalSeconds": max_delay is not None
            and not (_is_integer_between(max_delay, 1, 31_622_400) and _is_number(interval) and max_delay > interval),
            "JitterStrategy must be FULL or NONE": raw.get("JitterStrategy", "NONE") not in ("FULL", "NONE"),
        }
        for message in (message for message, is_wrong in errors.items() if is_wrong):
            self.add_finding(f"{where}/{message}")
        error_equals = self._parse_error_equals(raw, where)
        if any(errors.values()):
            return None
        return Retrier(error_equals, interval, attempts, float(rate), max_delay, raw.get("JitterStrategy") == "FULL")

    def _parse_error_equals(self, raw: _JsonObject, where: str) -> Tuple[str, ...]:
        names = raw.get("ErrorEquals")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            self.add_finding(f"{where}/ErrorEquals must be an array of error names")
            return ()
        for name in names:
            if name.startswith("States.") and name not in KNOWN_ERRORS:
                known = ", ".join(sorted(KNOWN_ERRORS))
                self.add_finding(f"{where}/ErrorEquals has the unknown error {name}; the States errors are {known}")
        return tuple(names)

    def _check_wildcards(self, field: str, entries: Sequence[Tuple[str, ...]]) -> None:
        for index, names in enumerate(entries):
            if "States.ALL" in names and (len(names) > 1 or index < len(entries) - 1):
                self.add_finding(f"{field}[{index}]/ErrorEquals: States.ALL must be the only error, in the last entry")

    # -- findings -------------------------------------------------------------------------------------------------

    def _check_fields(self, raw: _JsonObject, allowed: Sequence[str], where: str = "") -> None:
        for field in raw:
            if field not in allowed:
                path = f"{where}/{field}" if where else field
                self.add_finding(f"the field {path} is not allowed here; allowed are {', '.join(sorted(allowed))}")

    def add_finding(self, message: str) -> None:
        self.findings.append(Finding(self._state, message))


class _FieldParser:
    """Parse the template fields of one state or of one entry in it."""

    def __init__(
        self, parser: _Parser, raw: _JsonObject, variables: FrozenSet[str], outer: FrozenSet[str], where: str = ""
    ) -> None:
        self._parser = parser
        self._raw = raw
        self._variables = variables
        self._outer = outer
        self._where = where

    def for_entry(self, raw: _JsonObject, where: str) -> _FieldParser:
        return _FieldParser(self._parser, raw, self._variables, self._outer, where)

    def parse_template(self, field: str) -> Optional[Template]:
        """Return the field's template. None if the field is absent or invalid; the latter adds a finding."""
        if field not in self._raw:
            return None
        location = f"{self._where}/{field}" if self._where else field
        for key in _list_keys(self._raw[field]):
            if key.endswith(".$"):
                self._parser.add_finding(f"{location} has the JSONPath key {key!r}; remove the .$ and use JSONata")
        try:
            template = Template(self._raw[field], location)
        except ExpressionError as error:
            self._parser.add_finding(f"{location}: {error}")
            return None
        for name in sorted(template.free_variables() - self._variables):
            known = ", ".join(f"${variable}" for variable in sorted(self._variables)) or "none"
            self._parser.add_finding(f"{location} uses the unassigned variable ${name}; the variables here are {known}")
        return template

    def parse_assign(self) -> Optional[Template]:
        names = self._raw.get("Assign", {})
        if not isinstance(names, dict):
            self._parser.add_finding("Assign must be an object of variable names and values")
            return None
        for name in names:
            if not _VARIABLE_NAME.fullmatch(name) or name == "states":
                self._parser.add_finding(f"Assign cannot set {name!r}; use letters, digits and _, and not the name states")
            if name in self._outer:
                self._parser.add_finding(f"Assign sets ${name}, a variable of the states outside this Map; use another name")
        return self.parse_template("Assign")

    def parse_integer(self, field: str, minimum: int, maximum: int) -> Optional[Template]:
        template = self.parse_template(field)
        if template is not None and not template.is_expression and not _is_integer_between(template.value, minimum, maximum):
            self._parser.add_finding(f"{field} must be a whole number from {minimum} to {maximum}, or a JSONata expression")
        return template

    def parse_string(self, field: str) -> Optional[Template]:
        template = self.parse_template(field)
        if template is not None and not isinstance(template.value, str):
            self._parser.add_finding(f"{field} must be a string, or a JSONata expression that returns one")
        return template


def _assigned_variables(states: _JsonObject) -> FrozenSet[str]:
    """Return the variables that these states assign, without those inside Map states."""
    names: Set[str] = set()
    for state in (state for state in states.values() if isinstance(state, dict)):
        entries = [entry for field in ("Catch", "Choices") for entry in _filter_objects(state.get(field))]
        for holder in (state, *entries):
            names.update(holder["Assign"] if isinstance(holder.get("Assign"), dict) else ())
    return frozenset(names)


def _filter_objects(value: Any) -> List[_JsonObject]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _list_keys(value: Any) -> List[str]:
    if isinstance(value, dict):
        return [*value, *(key for inner in value.values() for key in _list_keys(inner))]
    if isinstance(value, list):
        return [key for inner in value for key in _list_keys(inner)]
    return []


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_integer_between(value: Any, minimum: int, maximum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum
