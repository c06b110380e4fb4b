"""Run dates of the demo shop: gates, the newest version of each row over all dates, and publishing."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from tests.oracle import contracts, landing, model, sales, texts
from tests.oracle.contracts import Landed, Values


@dataclass
class Run:
    """The result of a date: outcome, last stage, and the validation of rows by entity."""

    outcome: str = "SUCCEEDED"
    stage: str = "quality"
    rows: Landed = field(default_factory=dict)
    accepted: Landed = field(default_factory=dict)
    reasons: dict[str, dict[landing.RowAddress, set[str]]] = field(default_factory=dict)
    copies: dict[str, int] = field(default_factory=dict)
    against: list[str] = field(default_factory=list)
    """Reasons of the gate to reject the date."""

    def reject(self, stage: str, against: list[str]) -> Run:
        """End as REJECTED."""
        self.outcome, self.stage, self.against = "REJECTED", stage, against
        return self


class Shop:
    """Silver as versions by date, and published gold."""

    def __init__(self, params: Path, files: Path, key: bytes, **settings: Any) -> None:
        self.settings = {
            "max_rejected_share": 0.05,
            "tolerated_rejected_rows": 5,
            **yaml.safe_load((params / "local.yaml").read_text(encoding="utf-8")),
            **settings,
        }
        self.zone = self.settings["timezone"]
        self.source = yaml.safe_load((params / "sources" / "demo.yaml").read_text(encoding="utf-8"))
        self.landing_contract = contracts.load_tables(params / "contracts" / "landing" / "demo.yaml")
        self.silver_contracts = contracts.load_tables(params / "contracts" / "silver")
        self.gold_contracts = contracts.load_tables(params / "contracts" / "gold")
        self.files, self.key = files, key
        self.versions: dict[str, dict[model.Key, dict[date, Values]]] = defaultdict(lambda: defaultdict(dict))
        self.gold: dict[str, list[Values]] = defaultdict(list)
        self.landed: set[date] = set()

    def run(self, day: date) -> Run:
        """Run all stages for a date."""
        run = Run()
        against = self._validate(day, run)
        if against:
            return run.reject("validate", against)
        rows, collisions = model.silver_rows(run.accepted, self.silver_contracts, day, self.key, self.zone)
        against = collisions + self._broken(self.silver_contracts, rows) + self._shifted(day, rows["orders"])
        if against:
            return run.reject("transform", against)
        self._merge(day, rows)
        gold = {
            name: [model.to_stored_row(row, self.gold_contracts[name]) for row in rows]
            for name, rows in sales.gold_rows(self.silver(), self.landed, self.zone).items()
        }
        touched = {day} | {each["order_date"] for name in gold for each in _subtract_rows(gold[name], self.gold[name])}
        candidates = {name: [each for each in gold[name] if each["order_date"] in touched] for name in gold}
        against = self._broken(self.gold_contracts, candidates)
        if against:
            return run.reject("quality", against)
        self.gold = defaultdict(list, gold)
        return run

    def _validate(self, day: date, run: Run) -> list[str]:
        """Validate the landed rows; return the reasons to reject the date."""
        splittable: Landed = {}
        for name, contract in self.landing_contract.items():
            distinct, copies = landing.read_entity(self.files, self.source, name, day.isoformat())
            run.rows[name], run.copies[name] = distinct, len(copies)
            for row in distinct:
                contracts.parse_row(row, contract, self.zone)
            found = {row.address: contracts.list_broken_rules(row, contract, self.zone) for row in distinct}
            run.reasons[name] = {address: reasons for address, reasons in found.items() if reasons}
            run.accepted[name] = [row for row in distinct if not found[row.address]]
            splittable[name] = [row for row in distinct if row.splits]
        against = []
        for name, contract in self.landing_contract.items():
            rejected, landed = len(run.reasons[name]), len(run.reasons[name]) + len(run.accepted[name]) + run.copies[name]
            tolerated, share = self.settings["tolerated_rejected_rows"], self.settings["max_rejected_share"]
            if rejected > tolerated and rejected / landed > share:
                against.append(f"{name}: rejected share")
            against += [
                f"{name}: {rule}" for rule in contracts.list_broken_table_rules(splittable, name, contract, day, self.zone)
            ]
        placed = [row.values["ordered_at"] for row in splittable["orders"] if row.values["ordered_at"]]
        if placed and texts.local_day(max(placed), self.zone) < day:
            against.append("orders: ordered_at is fresh")
        return against

    def _broken(self, tables: dict[str, contracts.Table], rows: dict[str, list[Values]]) -> list[str]:
        """Return the rules of silver or gold contracts that rows break."""
        against = []
        for name, mine in rows.items():
            against += [
                f"{name}: {rule}" for row in mine for rule in contracts.list_broken_typed_rules(row, tables[name], self.zone)
            ]
            if not mine and any(rule.get("metric") == "rowCount" for rule in tables[name].get("quality", [])):
                against.append(f"{name}: rows")
        return against

    def _shifted(self, day: date, orders: list[Values]) -> list[str]:
        """Return a reason to reject if some orders are new and none is of the date."""
        known = {key for key, versions in self.versions["orders"].items() if any(other < day for other in versions)}
        new = [each for each in orders if (each["order_id"],) not in known]
        return (
            ["orders: new orders are of the business date"] if new and all(each["order_date"] != day for each in orders) else []
        )

    def _merge(self, day: date, rows: dict[str, list[Values]]) -> None:
        """Replace the versions of a date by these rows."""
        for name, mine in rows.items():
            for versions in self.versions[name].values():
                versions.pop(day, None)
            for row in mine:
                self.versions[name][model.key_of(row, self.silver_contracts[name])][day] = row
        self.landed.add(day)

    def silver(self) -> dict[str, list[Values]]:
        """Return the newest version of each row; of equal versions that of the later date."""
        tables = {
            name: [max(each.values(), key=lambda row: (row["version_at"], row["landed_on"])) for each in keys.values() if each]
            for name, keys in self.versions.items()
        }
        first: dict[str, date] = {}
        for order in tables["orders"]:
            who = order["customer_key"]
            first[who] = min(first.get(who, date.max), order["order_date"])
        customers = [{**each, "first_order_date": first.get(each["customer_key"])} for each in tables["customers"]]
        return {**tables, "customers": customers}


def _subtract_rows(one: list[Values], other: list[Values]) -> list[Values]:
    return [each for each in one if each not in other] + [each for each in other if each not in one]
