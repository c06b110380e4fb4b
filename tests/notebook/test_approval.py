"""Test that an approval publishes a rejected date, for the recorded findings only."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from daybook.errors import UsageError
from daybook.execution.decisions import approve
from daybook.notebook import begin
from daybook.notebook.gate import apply_approval
from daybook.quality.gates import Finding
from daybook.records.archive import Archive
from daybook.records.models import Approval
from tests.notebook.decisions import DAY, Shop, landing, shop

pytestmark = pytest.mark.slow

__all__ = ["landing", "shop"]

RUN = f"daily-{DAY}"
MOST = "orders: rejected share"


def reject(shop: Shop) -> None:
    """Run a day that the gate of validate rejects, because of too many rejected orders."""
    orders = shop.file("orders")
    orders.write_text(orders.read_text(encoding="utf-8-sig").replace(",paid,", ",lost,"), encoding="utf-8")
    assert shop.run(f"{RUN}-1") == "REJECTED"
    shop.close(f"{RUN}-1", "REJECTED", "validate", ["too many"])


def published(shop: Shop) -> list[tuple[object, ...]]:
    return shop.engine().rows("SELECT order_date FROM gold.daily_sales")


def test_approved_date_is_published_and_recorded(shop: Shop) -> None:
    reject(shop)
    assert published(shop) == []
    start = approve(shop.settings, f"{RUN}-1", by="a steward", why="the shop renamed a status")
    assert (start.run_id, start.first_stage) == (f"{RUN}-2", "validate")
    assert Archive(str(shop.place / "archive")).started(f"{RUN}-2").approval.to_json() == {
        "of": f"{RUN}-1",
        "by": "a steward",
        "why": "the shop renamed a status",
        "waived": [MOST],
    }
    assert shop.run(start.run_id, ["validate", "transform", "aggregate", "quality"]) == "SUCCEEDED"
    assert [str(row[0]) for row in published(shop)] == [DAY]
    (warning,) = [each for each in shop.details["validate"]["warnings"] if each.startswith("approved by")]
    assert warning.startswith("approved by a steward (the shop renamed a status): orders: ")
    assert shop.details["validate"]["waived"] == [MOST]


def test_finding_that_is_not_approved_rejects_the_date(shop: Shop) -> None:
    reject(shop)
    start = approve(shop.settings, f"{RUN}-1", by="a steward", why="known")
    shop.file("order_items").write_text(shop.file("order_items").read_text(encoding="utf-8-sig").splitlines()[0] + "\n")
    assert shop.run(start.run_id) == "REJECTED"
    refused = [each["about"] for each in shop.details["validate"]["refused"]]
    assert MOST in refused
    assert "order_items: there are 1 to 5,000,000 rows" in refused
    assert published(shop) == []


@pytest.mark.slow
def test_approval_of_a_dead_run_can_be_repeated(shop: Shop) -> None:
    reject(shop)
    first = approve(shop.settings, f"{RUN}-1", by="a steward", why="known")
    shop.run(first.run_id, ["validate", "transform"])
    second = approve(shop.settings, f"{RUN}-1", by="a steward", why="known")
    assert second.run_id == f"{RUN}-3"
    assert shop.run(second.run_id, ["validate", "transform", "aggregate", "quality"]) == "SUCCEEDED"
    assert [str(row[0]) for row in published(shop)] == [DAY]


def test_approval_after_quality_begins_at_aggregate(shop: Shop) -> None:
    shop.details["quality"] = {"refused": [{"about": "gold.daily_sales: a rule", "waivable": True}]}
    shop.close(f"{RUN}-1", "REJECTED", "quality")
    assert approve(shop.settings, f"{RUN}-1", by="a", why="b").first_stage == "aggregate"


@pytest.mark.smoke
def test_rejected_date_is_held_until_approved(shop: Shop, project: Any) -> None:
    project.replace("params/contracts/gold/daily_sales.yaml", "mustBeGreaterOrEqualTo: 1\n", "mustBeGreaterOrEqualTo: 100\n")
    assert shop.run(f"{RUN}-1") == "REJECTED"
    shop.close(f"{RUN}-1", "REJECTED", "quality")
    assert published(shop) == []
    assert shop.engine().rows("SELECT DISTINCT run_date FROM control.held_dates") != []
    start = approve(shop.settings, f"{RUN}-1", by="a steward", why="a small shop")
    assert start.first_stage == "aggregate"
    # The first publish is interrupted; the next attempt continues it.
    assert shop.run(start.run_id, ["aggregate"]) == "SUCCEEDED"
    assert shop.run(start.run_id, ["aggregate", "quality"]) == "SUCCEEDED"
    assert [str(row[0]) for row in published(shop)] == [DAY]
    assert shop.details["quality"]["waived"] == ["gold.daily_sales: there are at least 100 rows"]
    assert shop.engine().rows("SELECT DISTINCT run_date FROM control.held_dates") == []


def test_approval_waives_only_the_named_findings(shop: Shop) -> None:
    facts = {"approval": Approval(of=f"{RUN}-1", by="a steward", why="known", waived=("a", "key", "other"))}
    run_id = Archive(shop.settings.archive).start_run(date.fromisoformat(DAY), facts)
    stage = begin("quality", env="local", run_date=DAY, run_id=run_id, overrides=shop.overrides)
    found = [Finding("a", "a breaks"), Finding("b", "b breaks"), Finding("key", "twice", waivable=False)]
    assert apply_approval(stage, stage.run_date, found, []) == ["b breaks", "twice"]
    assert stage.details["waived"] == ["a"]
    assert stage.warnings == ["approved by a steward (known): a breaks"]


def test_finding_that_cannot_be_waived_is_not_approved(shop: Shop) -> None:
    shop.details["transform"] = {"refused": [{"about": "silver.orders: order_id is unique", "waivable": False}]}
    shop.close(f"{RUN}-1", "REJECTED", "transform")
    with pytest.raises(UsageError, match=r"cannot be approved: silver.orders: order_id is unique. Correct the data"):
        approve(shop.settings, f"{RUN}-1", by="a", why="b")


@pytest.mark.parametrize("outcome", ["SUCCEEDED", "FAILED", "SKIPPED"])
def test_only_a_rejected_run_is_approved(shop: Shop, outcome: str) -> None:
    shop.close(f"{RUN}-1", outcome, "quality")
    with pytest.raises(UsageError, match=f"ended as {outcome}; only a REJECTED run can be approved"):
        approve(shop.settings, f"{RUN}-1", by="a", why="b")


def test_run_older_than_the_newest_is_not_approved(shop: Shop) -> None:
    shop.details["quality"] = {"refused": [{"about": "gold.daily_sales: a rule", "waivable": True}]}
    shop.close(f"{RUN}-1", "REJECTED", "quality")
    shop.close(f"{RUN}-2", "SUCCEEDED", "quality")
    with pytest.raises(UsageError, match=f"has been run again as {RUN}-2, which ended as SUCCEEDED"):
        approve(shop.settings, f"{RUN}-1", by="a", why="b")


def test_approval_needs_a_reason(shop: Shop) -> None:
    with pytest.raises(UsageError, match="needs a reason"):
        approve(shop.settings, f"{RUN}-1", by="a", why="  ")
