"""Put short names in place of ids, pseudonyms and other texts of silver."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Union

from daybook.contracts import Property, Table, load_table
from daybook.testing.samples import Sample

_INTEGERS = ("BIGINT", "INTEGER")


def rename_values(sample: Sample, columns: Mapping[str, Collection[str]], kept: Collection[str]) -> Sample:
    """Return a sample with other ids and texts, and with some of its columns only.

    Parameters
    ----------
    sample
        Rows by table.
    columns
        The columns to keep, by table.
    kept
        Texts that stay. Those that the contract lists as valid values stay, too.

    Returns
    -------
    Sample
        A value has the same name wherever it occurs, also where another table refers to it. Names sort as the values do.
    """
    domains = {name: _find_domains(load_table(name), columns[name]) for name in sample}
    values: dict[str, set[Any]] = {}
    for name, rows in sample.items():
        for column, domain in domains[name].items():
            stays = {None, *kept, *_valid_values(load_table(name), column)}
            values.setdefault(domain, set()).update({row[column] for row in rows} - stays)
    names = {domain: _name_values(prefix, values[domain]) for domain, prefix in _choose_prefixes(values).items()}
    return {
        name: [
            {
                column: names[domains[name][column]].get(row[column], row[column]) if column in domains[name] else row[column]
                for column in row
                if column in columns[name]
            }
            for row in rows
        ]
        for name, rows in sample.items()
    }


def _find_domains(table: Table, columns: Collection[str]) -> dict[str, str]:
    """Return the columns with ids or texts, each with the name of the column whose values it has."""
    return {
        item.name: item.relationships[0].to.rpartition(".")[2] if item.relationships else item.name
        for item in table.properties
        if item.name in columns and (item.physicalType == "VARCHAR" or _is_integer_id(table, item))
    }


def _is_integer_id(table: Table, item: Property) -> bool:
    return item.physicalType in _INTEGERS and (bool(item.relationships) or table.key == [item.name])


def _valid_values(table: Table, column: str) -> set[str]:
    item = next(each for each in table.properties if each.name == column)
    return {value for rule in item.quality for value in rule.arguments.validValues or []}


def _choose_prefixes(domains: Iterable[str]) -> dict[str, str]:
    """Return the shortest beginning of each domain that no other domain has."""
    found: dict[str, str] = {}
    for domain in sorted(domains):
        beginnings = (domain[:size] for size in range(1, len(domain) + 1))
        found[domain] = next((each for each in beginnings if each not in found.values()), domain)
    return found


def _name_values(prefix: str, values: Collection[Any]) -> dict[Any, Union[str, int]]:
    """Return a name for each value: a letter and a number for a text, a number for an integer."""
    width = len(str(len(values)))
    numbered = enumerate(sorted(values), start=1)
    return {value: f"{prefix}{number:0{width}}" if isinstance(value, str) else number for number, value in numbered}
