"""Evaluate JSONata templates: JSON values with ``{% … %}`` strings."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Mapping, Optional, Tuple, Union

from jsonata import Jsonata
from jsonata.functions import Functions
from jsonata.jexception import JException
from jsonata.parser import Parser
from jsonata.utils import Utils

EXPRESSION_START, EXPRESSION_END = "{%", "%}"

_HASH_ALGORITHMS = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}

# The library writes to the syntax tree while it evaluates it, and threads share the tree. Evaluations are short, so one
# lock for all is enough.
_JSONATA_LOCK = threading.RLock()


class ExpressionError(ValueError):
    """Report an expression that does not parse or that Step Functions does not support."""


class EvaluationError(Exception):
    """Report that an expression returned no JSON value. ``location`` is its field, such as ``Arguments/JobName``."""

    def __init__(self, location: str, message: str) -> None:
        super().__init__(message)
        self.location = location


@dataclass(frozen=True)
class Scope:
    """Hold the inputs of an evaluation: ``$states``, the variables by name (without ``$``), the time and the random source."""

    states: Mapping[str, Any]
    variables: Mapping[str, Any]
    now: datetime
    random: Random


class Expression:
    """One parsed JSONata expression.

    Parameters
    ----------
    source : str
        The text between ``{%`` and ``%}``.

    Raises
    ------
    ExpressionError
        If it does not parse or calls ``$eval``.
    """

    def __init__(self, source: str) -> None:
        self.source = source.strip()
        with _JSONATA_LOCK:
            try:
                self._compiled = Jsonata(self.source)
            except Exception as fault:  # the library documents no exception class for invalid input
                raise ExpressionError(f"the JSONata expression '{self.source}' does not parse: {fault}") from fault
        used, bound = _find_variable_names(self._compiled.ast)
        if "eval" in used:
            raise ExpressionError("$eval is not available in Step Functions; use $parse to read JSON text")
        self.free_variables: FrozenSet[str] = frozenset(used - bound - BUILT_IN_NAMES)

    def evaluate(self, scope: Scope, location: str) -> Any:
        """Return the expression's value as JSON that shares no objects with ``scope``.

        Raises
        ------
        EvaluationError
            The expression fails, or its value is undefined or not JSON.
        """
        with _JSONATA_LOCK:
            frame = self._compiled.create_frame(self._compiled.environment)
            frame.bind("$", None)
            for name, function in _step_functions_builtins(scope).items():
                frame.bind(name, Jsonata.JLambda(function))
            for name, value in scope.variables.items():
                frame.bind(name, _mark_nulls(value))
            frame.bind("states", _mark_nulls(scope.states))
            try:
                value = self._compiled.eval(self._compiled.ast, None, frame)
            except Exception as fault:  # Step Functions reports any failure of an expression as an evaluation error
                raise EvaluationError(
                    location, self._format_error(location, f"threw an error: {_error_message(fault)}")
                ) from fault
            if value is None:
                raise EvaluationError(location, self._format_error(location, "returned nothing (undefined)"))
            try:
                return _to_json(value)
            except TypeError as fault:
                raise EvaluationError(location, self._format_error(location, f"returned {fault}")) from fault

    def _format_error(self, location: str, happened: str) -> str:
        return f"The JSONata expression '{self.source}' specified for the field '{location}' {happened}."


class Template:
    """A JSON value with expressions at any depth.

    Parameters
    ----------
    value : Any
        The JSON value from the file.
    location : str
        The path of its field, for messages.

    Raises
    ------
    ExpressionError
        If one of its strings is not a well-formed expression.
    """

    def __init__(self, value: Any, location: str) -> None:
        self.value = value
        self.location = location
        self._root = _compile(value)

    @property
    def is_expression(self) -> bool:
        """Whether the whole value is one ``{% … %}`` string."""
        return isinstance(self._root, Expression)

    def evaluate(self, scope: Scope) -> Any:
        """Return the value with every expression replaced by what it gives; raises ``EvaluationError``."""
        return _evaluate(self._root, scope, self.location)

    def free_variables(self) -> FrozenSet[str]:
        """Return the names of the variables that must come from the scope, without the ``$``."""
        return frozenset().union(*(expression.free_variables for expression in _iter_expressions(self._root)))


_Node = Union[Expression, Dict[str, Any], List[Any], str, int, float, bool, None]


def _compile(value: Any) -> _Node:
    if isinstance(value, dict):
        return {key: _compile(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_compile(inner) for inner in value]
    if isinstance(value, str):
        if (
            value.startswith(EXPRESSION_START)
            and value.endswith(EXPRESSION_END)
            and len(value) >= len(EXPRESSION_START + EXPRESSION_END)
        ):
            return Expression(value[len(EXPRESSION_START) : -len(EXPRESSION_END)])
        if value.strip().startswith(EXPRESSION_START) or value.strip().endswith(EXPRESSION_END):
            raise ExpressionError(
                f"the text {value!r} must start with '{EXPRESSION_START}' and end with '{EXPRESSION_END}' exactly"
            )
    return value  # type: ignore[no-any-return]


def _evaluate(node: _Node, scope: Scope, location: str) -> Any:
    if isinstance(node, Expression):
        return node.evaluate(scope, location)
    if isinstance(node, dict):
        return {key: _evaluate(inner, scope, f"{location}/{key}") for key, inner in node.items()}
    if isinstance(node, list):
        return [_evaluate(inner, scope, f"{location}[{place}]") for place, inner in enumerate(node)]
    return node


def _iter_expressions(node: _Node) -> Iterator[Expression]:
    if isinstance(node, Expression):
        yield node
    elif isinstance(node, (dict, list)):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from _iter_expressions(inner)


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


def _step_functions_builtins(scope: Scope) -> Dict[str, Callable[..., Any]]:
    """Return the functions that Step Functions adds, and the JSONata functions that use the clock."""
    milliseconds = int(scope.now.timestamp() * 1000)

    def now(picture: Optional[str] = None, timezone: Optional[str] = None) -> Any:
        return Functions.datetime_from_millis(milliseconds, picture, timezone)

    def random(seed: Optional[float] = None) -> float:
        return scope.random.random() if seed is None else Random(seed).random()  # noqa: S311

    def make_uuid() -> str:
        return str(uuid.UUID(int=scope.random.getrandbits(128), version=4))

    return {
        "partition": _partition,
        "range": _range,
        "hash": _hash,
        "parse": _parse,
        "random": random,
        "uuid": make_uuid,
        "now": now,
        "millis": lambda: milliseconds,
        "toMillis": _to_millis,
    }


BUILT_IN_NAMES = frozenset({"states", "partition", "range", "hash", "parse", "uuid", *Jsonata.static_frame.bindings}) - {"eval"}


def _to_millis(timestamp: Any = None, picture: Any = None) -> Any:
    # Before Python 3.11 the library does not parse the Z at the end of AWS timestamps.
    if isinstance(timestamp, str) and picture is None and timestamp.endswith("Z"):
        timestamp = f"{timestamp[:-1]}+00:00"
    return Functions.datetime_to_millis(timestamp, picture)


def _partition(array: Any, size: Any = None) -> List[Any]:
    if not isinstance(array, list) or not _is_whole_number(size) or size < 1:
        raise ValueError("$partition takes an array and a chunk size of 1 or more")
    return [array[start : start + int(size)] for start in range(0, len(array), int(size))]


def _range(first: Any, last: Any = None, step: Any = 1) -> List[int]:
    if not (_is_whole_number(first) and _is_whole_number(last) and _is_whole_number(step)) or step == 0:
        raise ValueError("$range takes a first and a last whole number and a step that is not 0")
    return list(range(int(first), int(last) + (1 if step > 0 else -1), int(step)))


def _hash(content: Any, algorithm: Any = None) -> str:
    if algorithm not in _HASH_ALGORITHMS:
        raise ValueError(f"$hash supports {', '.join(_HASH_ALGORITHMS)}, not {algorithm!r}")
    if content is None:
        raise ValueError("$hash needs a value")
    text = content if isinstance(content, str) else json.dumps(_to_json(content), separators=(",", ":"))
    return hashlib.new(_HASH_ALGORITHMS[algorithm], text.encode()).hexdigest()


def _parse(text: Any = None) -> Any:
    if not isinstance(text, str):
        raise ValueError("$parse takes a JSON string")
    return _mark_nulls(json.loads(text))


def _is_whole_number(number: Any) -> bool:
    return isinstance(number, (int, float)) and not isinstance(number, bool) and float(number).is_integer()
