"""Evaluate IAM policies and EventBridge patterns as AWS documents them, for the operators that ``infra/`` uses.

Unsupported operators raise ``KeyError``.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional

Context = Mapping[str, Any]

_OPERATORS: Dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda found, expected: found == expected,
    "StringLike": lambda found, expected: _matches_wildcard(found, expected),
    "ArnEquals": lambda found, expected: _matches_wildcard(found, expected),
    "ArnLike": lambda found, expected: _matches_wildcard(found, expected),
    "Bool": lambda found, expected: found.lower() == expected.lower(),
    "NumericLessThan": lambda found, expected: float(found) < float(expected),
}


def allows(
    statements: Iterable[Mapping[str, Any]],
    action: str,
    resource: str,
    context: Optional[Context] = None,
    service: Optional[str] = None,
) -> bool:
    """Return whether statements allow a request; an explicit Deny wins.

    ``context`` has the condition keys of the request. ``service`` is the caller for resource policies.
    """
    effects = [each["Effect"] for each in statements if _applies(each, action, resource, context or {}, service)]
    return "Allow" in effects and "Deny" not in effects


def matches(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Return whether an event matches a pattern of an EventBridge rule."""
    return all(_field_matches(key, expected, event) for key, expected in pattern.items())


def _applies(each: Mapping[str, Any], action: str, resource: str, context: Context, service: Optional[str]) -> bool:
    if service is not None and each["Principal"] != "*" and service not in _as_list(each["Principal"].get("Service", [])):
        return False
    if "NotAction" in each:
        named = not any(_matches_wildcard(action.lower(), known.lower()) for known in _as_list(each["NotAction"]))
    else:
        named = any(_matches_wildcard(action.lower(), known.lower()) for known in _as_list(each["Action"]))
    return (
        named
        and any(_matches_wildcard(resource, known) for known in _as_list(each["Resource"]))
        and all(
            _condition_holds(operator, key, _as_list(expected), context)
            for operator, keys in each.get("Condition", {}).items()
            for key, expected in keys.items()
        )
    )


def _condition_holds(operator: str, key: str, expected: List[str], context: Context) -> bool:
    qualifier, _, name = operator.rpartition(":")
    found = _as_list(context[key]) if key in context else None
    negated = name.replace("Not", "", 1) if "Not" in name else ""
    compare = _OPERATORS[negated or name]

    def one(value: str) -> bool:
        return any(compare(value, each) for each in expected) != bool(negated)

    if qualifier == "ForAllValues":
        return all(one(value) for value in found or [])
    if qualifier == "ForAnyValue":
        return any(one(value) for value in found or [])
    # A missing key fails a condition and passes a negated one.
    return bool(negated) if found is None else one(*found)


def _field_matches(key: str, expected: Any, event: Mapping[str, Any]) -> bool:
    if key == "$or":
        return any(matches(each, event) for each in expected)
    if isinstance(expected, Mapping):
        return isinstance(event.get(key), Mapping) and matches(expected, event[key])
    return any(_value_matches(each, key, event) for each in expected)


def _value_matches(expected: Any, key: str, event: Mapping[str, Any]) -> bool:
    if not isinstance(expected, Mapping):
        return bool(event.get(key) == expected)
    ((operator, operand),) = expected.items()
    if operator == "exists":
        return (key in event) is operand
    if key not in event:
        return False
    if operator == "anything-but":
        if isinstance(operand, Mapping):
            return not _value_matches(operand, key, event)
        return event[key] not in _as_list(operand)
    return {"prefix": lambda: event[key].startswith(operand), "wildcard": lambda: _matches_wildcard(event[key], operand)}[
        operator
    ]()


def _matches_wildcard(found: str, expected: str) -> bool:
    # AWS supports * and ? of fnmatch only.
    return fnmatchcase(found, re.sub(r"\[", "[[]", expected))


def _as_list(value: Any) -> List[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
