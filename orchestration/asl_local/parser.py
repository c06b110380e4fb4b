"""The language: raw JSON into the model, strictly."""

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
    # Sources differ on whether a Choice's own Assign and Output hold for its rules too: they stand in the rules here.
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
    """Return the states in ``raw``, a parsed file, and all that is wrong with them; with findings they must not run."""
    reader = _Parser()
    return reader.machine(raw), reader.findings


class _Parser:
    """Turns raw JSON into the model, noting every fault instead of stopping at the first."""

    def __init__(self) -> None:
        self.findings: List[Finding] = []
        self._state = ""
        self._names: Set[str] = set()

    def machine(self, raw: Any) -> Optional[Workflow]:
        if not isinstance(raw, dict):
            self.note("a state machine is a JSON object")
            return None
        self._check_fields(raw, MACHINE_FIELDS)
        if raw.get("QueryLanguage") != "JSONata":
            self.note('QueryLanguage must be "JSONata"')
        if raw.get("Version", "1.0") != "1.0":
            self.note('Version must be "1.0"')
        timeout = raw.get("TimeoutSeconds")
        if timeout is not None and not _is_integer_between(timeout, 1, 99_999_999):
            self.note("TimeoutSeconds must be a whole number of 1 or more")
        return self._parse_workflow(raw, frozenset())

    # -- workflows and states -------------------------------------------------------------------------------------

    def _parse_workflow(self, raw: _JsonObject, outer_variables: FrozenSet[str]) -> Optional[Workflow]:
        owner = self._state
        states = raw.get("States")
        if not isinstance(states, dict) or not states:
            self.note("States must be an object with at least one state")
            return None
        variables = outer_variables | _assigned_variables(states)
        model: Dict[str, State] = {}
        for name, raw_state in states.items():
            self._state = name
            if name in self._names or not 0 < len(name) <= MAX_NAME_LENGTH:
                self.note(f"a state's name must be unique in the file and 1 to {MAX_NAME_LENGTH} characters long")
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
                    self.note(f'there is no state "{target}" to go to here; there are {allowed}')
        self._state = owner
        if start not in states:
            self.note(f"StartAt must name one of {allowed}")
            return
        reached, waiting = set(), [start]
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting.extend(list_successors(model[name]) if name in model else ())
        for name in states:
            # A state that could not be read leads nowhere, so nothing can be said about the others.
            if name not in reached and len(model) == len(states):
                self._state = name
                self.note("no state leads here; remove it or name it in a Next, Default or Catch")
        self._state = owner

    def _parse_state(self, name: str, raw: Any, variables: FrozenSet[str], outer_variables: FrozenSet[str]) -> Optional[State]:
        kind = raw.get("Type") if isinstance(raw, dict) else None
        if not isinstance(kind, str) or kind not in STATE_FIELDS:
            self.note(f"Type must be one of {', '.join(STATE_FIELDS)}, not {json.dumps(kind)}")
            return None
        self._check_fields(raw, STATE_FIELDS[kind])
        fields = _FieldParser(self, raw, variables, outer_variables)
        if kind == "Choice":
            return ChoiceState(name, self._entries(raw, "Choices", fields, self._parse_rule, required=True), raw.get("Default"))
        if kind == "Succeed":
            return SucceedState(name, fields.template("Output"))
        if kind == "Fail":
            return FailState(name, fields.text("Error"), fields.text("Cause"))
        flow = (name, self._parse_next(raw), fields.assign(), fields.template("Output"))
        if kind == "Pass":
            return PassState(*flow)
        if kind == "Wait":
            if ("Seconds" in raw) == ("Timestamp" in raw):
                self.note("a Wait state has exactly one of Seconds and Timestamp")
            return WaitState(*flow, fields.whole("Seconds", 0, 99_999_999), fields.text("Timestamp"))
        retry = self._entries(raw, "Retry", fields, self._parse_retrier)
        catch = self._entries(raw, "Catch", fields, self._parse_catcher)
        self._check_wildcards("Retry", [retrier.error_equals for retrier in retry])
        self._check_wildcards("Catch", [catcher.error_equals for catcher in catch])
        if kind == "Task":
            resource = raw.get("Resource")
            if not isinstance(resource, str) or split_resource(resource) is None:
                self.note("Resource must be a service integration such as arn:aws:states:::glue:startJobRun.sync")
                return None
            timeout = fields.whole("TimeoutSeconds", 1, 99_999_999)
            return TaskState(*flow, resource, fields.template("Arguments"), timeout, retry, catch)
        processor = self._parse_processor(raw.get("ItemProcessor"), variables)
        if processor is None:
            return None
        items = fields.template("Items")
        if items is not None and not items.is_expression and not isinstance(items.value, list):
            self.note("Items must be an array or a JSONata expression that gives one")
        selector, concurrency = fields.template("ItemSelector"), fields.whole("MaxConcurrency", 0, 99_999_999)
        return MapState(*flow, items, selector, concurrency, processor, retry, catch)

    def _parse_processor(self, raw: Any, variables: FrozenSet[str]) -> Optional[Workflow]:
        if not isinstance(raw, dict):
            self.note("a Map state needs an ItemProcessor object")
            return None
        self._check_fields(raw, PROCESSOR_FIELDS, "ItemProcessor")
        if raw.get("ProcessorConfig", {"Mode": "INLINE"}) != {"Mode": "INLINE"}:
            self.note('ItemProcessor/ProcessorConfig must be {"Mode": "INLINE"}')
        return self._parse_workflow(raw, variables)

    def _parse_next(self, raw: _JsonObject) -> Optional[str]:
        following = raw.get("Next")
        if ("Next" in raw) == ("End" in raw) or raw.get("End", True) is not True:
            self.note('exactly one of Next and "End": true must be given')
        if following is not None and not isinstance(following, str):
            self.note("Next must name a state")
            return None
        return following

    # -- entries of Retry, Catch and Choices ----------------------------------------------------------------------

    def _entries(
        self,
        raw: _JsonObject,
        field: str,
        fields: _FieldParser,
        read_entry: Callable[[_JsonObject, str, _FieldParser], Optional[_Entry]],
        required: bool = False,
    ) -> Tuple[_Entry, ...]:
        entries = raw.get(field, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self.note(f"{field} must be an array of objects")
            return ()
        if required and not entries:
            self.note(f"{field} must have at least one entry")
        read_entries = (read_entry(entry, f"{field}[{place}]", fields) for place, entry in enumerate(entries))
        return tuple(entry for entry in read_entries if entry is not None)

    def _parse_rule(self, raw: _JsonObject, where: str, fields: _FieldParser) -> Optional[ChoiceRule]:
        self._check_fields(raw, RULE_FIELDS, where)
        inner = fields.within(raw, where)
        condition, following = inner.template("Condition"), raw.get("Next")
        if condition is None or not condition.is_expression:
            self.note(f"{where}/Condition must be a JSONata expression, {{% … %}}")
            return None
        if not isinstance(following, str):
            self.note(f"{where}/Next must name a state")
            return None
        return ChoiceRule(condition, following, inner.assign(), inner.template("Output"))

    def _parse_catcher(self, raw: _JsonObject, where: str, fields: _FieldParser) -> Optional[Catcher]:
        self._check_fields(raw, CATCHER_FIELDS, where)
        inner = fields.within(raw, where)
        if not isinstance(raw.get("Next"), str):
            self.note(f"{where}/Next must name a state")
            return None
        return Catcher(self._parse_error_equals(raw, where), raw["Next"], inner.assign(), inner.template("Output"))

    def _parse_retrier(self, raw: _JsonObject, where: str, fields: _FieldParser) -> Optional[Retrier]:
        self._check_fields(raw, RETRIER_FIELDS, where)
        interval, attempts = raw.get("IntervalSeconds", 1), raw.get("MaxAttempts", 3)
        rate, longest = raw.get("BackoffRate", 2.0), raw.get("MaxDelaySeconds")
        faults = {
            "IntervalSeconds must be a whole number of 1 or more": not _is_integer_between(interval, 1, 99_999_999),
            "MaxAttempts must be a whole number from 0 to 99999999": not _is_integer_between(attempts, 0, 99_999_999),
            "BackoffRate must be a number of 1 or more": not _is_number(rate) or rate < 1,
            "MaxDelaySeconds must be a whole number from 1 to 31622400, and above IntervalSeconds": longest is not None
            and not (_is_integer_between(longest, 1, 31_622_400) and _is_number(interval) and longest > interval),
            "JitterStrategy must be FULL or NONE": raw.get("JitterStrategy", "NONE") not in ("FULL", "NONE"),
        }
        for message in (message for message, wrong in faults.items() if wrong):
            self.note(f"{where}/{message}")
        error_equals = self._parse_error_equals(raw, where)
        if any(faults.values()):
            return None
        return Retrier(error_equals, interval, attempts, float(rate), longest, raw.get("JitterStrategy") == "FULL")

    def _parse_error_equals(self, raw: _JsonObject, where: str) -> Tuple[str, ...]:
        names = raw.get("ErrorEquals")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            self.note(f"{where}/ErrorEquals must be an array of error names")
            return ()
        for name in names:
            if name.startswith("States.") and name not in KNOWN_ERRORS:
                self.note(f"{where}/ErrorEquals has {name}; the States errors are {', '.join(sorted(KNOWN_ERRORS))}")
        return tuple(names)

    def _check_wildcards(self, field: str, entries: Sequence[Tuple[str, ...]]) -> None:
        for place, names in enumerate(entries):
            if "States.ALL" in names and (len(names) > 1 or place < len(entries) - 1):
                self.note(f"{field}[{place}]/ErrorEquals: States.ALL must stand alone, and in the last entry")

    # -- notes ----------------------------------------------------------------------------------------------------

    def _check_fields(self, raw: _JsonObject, allowed: Sequence[str], where: str = "") -> None:
        for field in raw:
            if field not in allowed:
                place = f"{where}/{field}" if where else field
                self.note(f"the field {place} is not known here; allowed are {', '.join(sorted(allowed))}")

    def note(self, message: str) -> None:
        self.findings.append(Finding(self._state, message))


class _FieldParser:
    """The fields of one state, or of one entry in it, that hold templates."""

    def __init__(
        self, reader: _Parser, raw: _JsonObject, variables: FrozenSet[str], outer: FrozenSet[str], where: str = ""
    ) -> None:
        self._reader = reader
        self._raw = raw
        self._variables = variables
        self._outer = outer
        self._where = where

    def within(self, raw: _JsonObject, where: str) -> _FieldParser:
        return _FieldParser(self._reader, raw, self._variables, self._outer, where)

    def template(self, field: str) -> Optional[Template]:
        """Return the field's template, or None when it is absent or wrong (then noted)."""
        if field not in self._raw:
            return None
        location = f"{self._where}/{field}" if self._where else field
        for key in _list_keys(self._raw[field]):
            if key.endswith(".$"):
                self._reader.note(f"{location} has the JSONPath key {key!r}; write the name without .$ and use JSONata")
        try:
            template = Template(self._raw[field], location)
        except ExpressionError as fault:
            self._reader.note(f"{location}: {fault}")
            return None
        for name in sorted(template.free_variables() - self._variables):
            known = ", ".join(f"${variable}" for variable in sorted(self._variables)) or "none"
            self._reader.note(f"{location} uses ${name}, which no state assigns; the variables here are {known}")
        return template

    def assign(self) -> Optional[Template]:
        names = self._raw.get("Assign", {})
        if not isinstance(names, dict):
            self._reader.note("Assign must be an object of variable names and values")
            return None
        for name in names:
            if not _VARIABLE_NAME.fullmatch(name) or name == "states":
                self._reader.note(f"Assign cannot set {name!r}; a variable's name has letters, digits and _, not states")
            if name in self._outer:
                self._reader.note(f"Assign sets ${name}, which belongs to the states around this Map; use another name")
        return self.template("Assign")

    def whole(self, field: str, least: int, most: int) -> Optional[Template]:
        template = self.template(field)
        if template is not None and not template.is_expression and not _is_integer_between(template.value, least, most):
            self._reader.note(f"{field} must be a whole number from {least} to {most}, or a JSONata expression")
        return template

    def text(self, field: str) -> Optional[Template]:
        template = self.template(field)
        if template is not None and not isinstance(template.value, str):
            self._reader.note(f"{field} must be a text, or a JSONata expression that gives one")
        return template


def _assigned_variables(states: _JsonObject) -> FrozenSet[str]:
    """Return the variables that these states assign, not those of the Map states' insides."""
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


def _is_integer_between(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
