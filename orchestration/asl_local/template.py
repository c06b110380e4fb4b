"""Evaluate JSONata templates: JSON values with ``{% … %}`` strings."""

from __future__ import annotations

import json
import threading
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, NamedTuple, Tuple, Union

from jsonata import Jsonata
from jsonata.functions import Functions
from jsonata.jexception import JException
from jsonata.parser import Parser
from jsonata.utils import Utils

EXPRESSION_START, EXPRESSION_END = "{%", "%}"
BUILT_IN_NAMES = frozenset({"states", "parse", *Jsonata.static_frame.bindings})
UNSUPPORTED_FUNCTIONS = frozenset({"eval", "hash", "millis", "now", "partition", "random", "range", "shuffle", "uuid"})
"""Step Functions has no ``$eval``. No state machine uses the others; they would need an injected clock and random source."""

# The library writes to the syntax tree while it evaluates it, and threads share the tree. Evaluations are short, so one
# lock for all is enough.
_JSONATA_LOCK = threading.RLock()


class ExpressionError(ValueError):
    """Report a template that does not parse, is of the wrong kind, or uses what this package does not support."""


class EvaluationError(Exception):
    """Report that a template has no value of its kind. ``location`` is its field, such as ``Arguments/JobName``."""

    def __init__(self, location: str, message: str) -> None:
        super().__init__(message)
        self.location = location


class Kind(NamedTuple):
    """The values that a field may have, described in words and by a function."""

    expected: str
    accepts: Callable[[Any], bool]


ANY = Kind("JSON", lambda value: True)
ARRAY = Kind("an array", lambda value: isinstance(value, list))
BOOLEAN = Kind("true or false", lambda value: isinstance(value, bool))
COUNT = Kind("a whole number of 0 or more", lambda value: type(value) is int and value >= 0)
STRING = Kind("a string", lambda value: isinstance(value, str))


class Expression:
    """One parsed JSONata expression.

    Parameters
    ----------
    source : str
        The text between ``{%`` and ``%}``.

    Raises
    ------
    ExpressionError
        If it does not parse or calls an unsupported function.
    """

    def __init__(self, source: str) -> None:
        self.source = source.strip()
        with _JSONATA_LOCK:
            try:
                self._compiled = Jsonata(self.source)
            except Exception as fault:  # the library documents no exception class for invalid input
                raise ExpressionError(f"the JSONata expression '{self.source}' does not parse: {fault}") from fault
        self._compiled.register_lambda("parse", _parse)
        self._compiled.register_lambda("toMillis", _to_millis)
        used, bound = _find_variable_names(self._compiled.ast)
        unsupported = sorted(used & UNSUPPORTED_FUNCTIONS)
        if unsupported:
            raise ExpressionError(f"${unsupported[0]} is not available; use $parse to read JSON, and a task for other values")
        self.free_variables: FrozenSet[str] = frozenset(used - bound - BUILT_IN_NAMES)

    def evaluate(self, states: Mapping[str, Any], variables: Mapping[str, Any], location: str) -> Any:
        """Return the expression's value as JSON that shares no objects with ``states`` and ``variables``.

        Raises
        ------
        EvaluationError
            The expression fails, or its value is undefined or not JSON.
        """
        with _JSONATA_LOCK:
            frame = self._compiled.create_frame(self._compiled.environment)
            frame.bind("$", None)
            for name, value in {**variables, "states": states}.items():
                frame.bind(name, _mark_nulls(value))
            try:
                value = self._compiled.eval(self._compiled.ast, None, frame)
            except Exception as fault:  # Step Functions reports any failure of an expression as an evaluation error
                raise self._failure(location, f"threw an error: {_error_message(fault)}") from fault
            if value is None:
                raise self._failure(location, "returned nothing (undefined)")
            try:
                return _to_json(value)
            except TypeError as fault:
                raise self._failure(location, f"returned {fault}") from fault

    def _failure(self, location: str, happened: str) -> EvaluationError:
        message = f"The JSONata expression '{self.source}' specified for the field '{location}' {happened}."
        return EvaluationError(location, message)


class Template:
    """A JSON value with expressions at any depth.

    Parameters
    ----------
    value : Any
        The JSON value from the file.
    kind : Kind
        What the value must be.

    Raises
    ------
    ExpressionError
        If one of its strings is not a well-formed expression, or a constant value is of another kind.
    """

    def __init__(self, value: Any, kind: Kind = ANY) -> None:
        self.value = value
        self._kind = kind
        self._expressions: List[Expression] = []
        self._root = self._compile(value)
        if not self.is_expression and not kind.accepts(value):
            raise ExpressionError(f"must be {kind.expected}, or a JSONata expression that returns this")

    @property
    def is_expression(self) -> bool:
        """Whether the whole value is one ``{% … %}`` string."""
        return isinstance(self._root, Expression)

    @property
    def free_variables(self) -> FrozenSet[str]:
        """The names of the variables that must be passed to ``evaluate``, without the ``$``."""
        return frozenset().union(*(expression.free_variables for expression in self._expressions))

    def evaluate(self, states: Mapping[str, Any], variables: Mapping[str, Any], location: str) -> Any:
        """Return the value with every expression replaced by its result.

        Parameters
        ----------
        states : mapping
            The fields of ``$states``.
        variables : mapping
            The variables by name, without ``$``.
        location : str
            The path of the template's field, for messages.

        Raises
        ------
        EvaluationError
            An expression fails, or the value is of another kind.
        """
        value = _evaluate(self._root, states, variables, location)
        if not self._kind.accepts(value):
            message = f"The field '{location}' must be {self._kind.expected}, and is {json.dumps(value)[:200]}."
            raise EvaluationError(location, message)
        return value

    def _compile(self, value: Any) -> _Node:
        if isinstance(value, dict):
            for key in value:
                if key.endswith(".$"):
                    raise ExpressionError(f"has the JSONPath key {key!r}; remove the .$ and use JSONata")
            return {key: self._compile(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._compile(inner) for inner in value]
        if isinstance(value, str):
            start, end = value.startswith(EXPRESSION_START), value.endswith(EXPRESSION_END)
            if start and end and len(value) >= len(EXPRESSION_START + EXPRESSION_END):
                self._expressions.append(Expression(value[len(EXPRESSION_START) : -len(EXPRESSION_END)]))
                return self._expressions[-1]
            if value.strip().startswith(EXPRESSION_START) or value.strip().endswith(EXPRESSION_END):
                raise ExpressionError(
                    f"the text {value!r} must start with '{EXPRESSION_START}' and end with '{EXPRESSION_END}' exactly"
                )
        return value  # type: ignore[no-any-return]


_Node = Union[Expression, Dict[str, Any], List[Any], str, int, float, bool, None]


def _evaluate(node: _Node, states: Mapping[str, Any], variables: Mapping[str, Any], location: str) -> Any:
    if isinstance(node, Expression):
        return node.evaluate(states, variables, location)
    if isinstance(node, dict):
        return {key: _evaluate(inner, states, variables, f"{location}/{key}") for key, inner in node.items()}
    if isinstance(node, list):
        return [_evaluate(inner, states, variables, f"{location}[{place}]") for place, inner in enumerate(node)]
    return node


def _mark_nulls(value: Any) -> Any:
    """Return a copy of JSON with null as the library's null, because its None means undefined."""
    if value is None:
        return Utils.NULL_VALUE
    if isinstance(value, Mapping):
        return {key: _mark_nulls(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mark_nulls(inner) for inner in value]
    return value


def _error_message(fault: Exception) -> str:
    """Return the error message. ``$error`` and ``$assert`` store theirs in ``current``."""
    if isinstance(fault, JException) and fault.error in ("D3137", "D3141"):
        return str(fault.current)
    return str(fault) or type(fault).__name__


def _to_json(value: Any) -> Any:
    """Return a library value as JSON; raise ``TypeError`` with a description of any other value."""
    if value is Utils.NULL_VALUE or value is None:
        return None
    if isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise TypeError(f"the number {value}, which JSON does not have")
        return int(value) if value.is_integer() else value  # JSONata has one number type and writes 3.0 as 3
    if isinstance(value, dict):
        return {str(key): _to_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_to_json(value[place]) for place in range(len(value))]
    raise TypeError("a function, which is not a JSON value")


def _find_variable_names(node: Any) -> Tuple[FrozenSet[str], FrozenSet[str]]:
    """Return the variable names that a syntax tree uses, and those that it binds."""
    used, bound = set(), set()
    seen = set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (list, tuple)):
            waiting.extend(node)
        if not isinstance(node, Parser.Symbol) or id(node) in seen:
            continue
        seen.add(id(node))
        parts = vars(node)
        kind = parts.get("type")
        if kind == "variable" and parts.get("value") not in ("", "$"):  # the context value and the root
            used.add(str(parts["value"]))
        if kind == "bind":
            bound.add(str(parts["lhs"].value))
        if kind == "lambda":
            bound.update(str(argument.value) for argument in parts["arguments"])
        bound.update(parts[key] for key in ("focus", "index") if isinstance(parts.get(key), str))
        waiting.extend(part for part in parts.values() if isinstance(part, (Parser.Symbol, list, tuple)))
    return frozenset(used), frozenset(bound)


def _to_millis(timestamp: Any = None, picture: Any = None) -> Any:
    # Before Python 3.11 the library does not parse the Z at the end of AWS timestamps.
    if isinstance(timestamp, str) and picture is None and timestamp.endswith("Z"):
        timestamp = f"{timestamp[:-1]}+00:00"
    return Functions.datetime_to_millis(timestamp, picture)


def _parse(text: Any = None) -> Any:
    if not isinstance(text, str):
        raise ValueError("$parse takes a JSON string")
    return _mark_nulls(json.loads(text))
