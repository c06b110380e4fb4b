"""Compare two versions of a YAML file of the project, key by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Union

import yaml

from daybook.settings import looks_secret

HIDDEN = "(not shown)"
"""Shown in place of the value of a key that looks like a secret's."""
ABSENT = object()
"""The value of a key that does not exist."""

KeyPath = tuple[Union[str, int], ...]
"""Keys of mappings, names of named items and positions of others: ``("properties", "units", "quality", 0)``."""
_NAME_KEYS = ("name", "property", "metric", "from", "type")
"""Keys of an item of a list, of which the first that it has names it: columns and rules of contracts, parts of mappings."""


@dataclass(frozen=True)
class KeyChange:
    """A key whose value was added, removed or changed. An added or removed mapping is one change."""

    path: KeyPath
    before: Any
    after: Any

    @property
    def kind(self) -> str:
        """What happened to the key: ``added``, ``removed`` or ``changed``."""
        return "added" if self.before is ABSENT else "removed" if self.after is ABSENT else "changed"

    @property
    def before_text(self) -> str:
        """The value before as YAML on one line, without secrets; empty if the key did not exist."""
        return _format_value(self.path, self.before)

    @property
    def after_text(self) -> str:
        """The value after as YAML on one line, without secrets; empty if the key does not exist."""
        return _format_value(self.path, self.after)

    def lines(self) -> list[str]:
        """Return a diff of the value as YAML, for an added or removed file."""
        sides = [("-", self.before), ("+", self.after)]
        return [
            sign + line
            for sign, value in sides
            if value is not ABSENT
            for line in _dump(_hide_secrets(value), flow=False).splitlines()
        ]


def diff_values(before: Any, after: Any, path: KeyPath = ()) -> Iterator[KeyChange]:
    """Yield the differences of two loaded YAML values, in the order of the file."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from diff_values(before.get(key, ABSENT), after.get(key, ABSENT), (*path, str(key)))
    elif _has_mappings(before) and _has_mappings(after):
        old, new = _name_items(before), _name_items(after)
        if old and new:
            yield from diff_values(old, new, path)
        else:
            yield from _diff_items(before, after, path)
    elif type(before) is not type(after) or before != after:
        yield KeyChange(path, before, after)


def _has_mappings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, Mapping) for each in value)


def _name_items(items: list[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the items of a list by their names; empty if an item has no name or two have the same."""
    named = {str(each[key]): each for each in items for key in [next((key for key in _NAME_KEYS if key in each), "")] if key}
    return named if len(named) == len(items) else {}


def _diff_items(before: list[Any], after: list[Any], path: KeyPath) -> Iterator[KeyChange]:
    """Yield the differences of lists of mappings without names: equal items are paired first, then those between them."""
    matcher = SequenceMatcher(None, [_dump(each) for each in before], [_dump(each) for each in after], autojunk=False)
    for operation, start, end, there, last in matcher.get_opcodes():
        if operation == "equal":
            continue
        for number in range(max(end - start, last - there)):
            old = before[start + number] if start + number < end else ABSENT
            new = after[there + number] if there + number < last else ABSENT
            position = there + number if new is not ABSENT else start + number
            yield from diff_values(old, new, (*path, position))


def _format_value(path: KeyPath, value: Any) -> str:
    if value is ABSENT:
        return ""
    if any(isinstance(part, str) and looks_secret(part) for part in path):
        return HIDDEN
    return _dump(_hide_secrets(value))


def _hide_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: HIDDEN if looks_secret(str(key)) else _hide_secrets(each) for key, each in value.items()}
    return [_hide_secrets(each) for each in value] if isinstance(value, list) else value


def _dump(value: Any, *, flow: bool = True) -> str:
    """Return a value as YAML, with ``flow`` on one line."""
    if isinstance(value, str):
        return " ".join(value.split())
    dumped: str = yaml.safe_dump(value, default_flow_style=flow, sort_keys=False, allow_unicode=True, width=float("inf"))
    return dumped.replace("\n...\n", "\n").strip()
