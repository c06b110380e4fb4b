"""Test ``daybook compare`` on days of the demo shop and of Online Retail, and a development copy of a changed notebook."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable

import pytest

from daybook.notebook import context as stages
from daybook.records.fingerprint import code_version
from daybook.settings import load_settings
from demo_shop import generate
from tests.runs.shop import PROJECT, DaybookHome, run_command
from tests.sessions import new_session

pytestmark = pytest.mark.slow
Compare = Callable[..., tuple[int, str]]
DAYS = {"local": ("2025-11-29", "2025-11-30"), "online_retail": ("2010-12-01", "2010-12-02")}
NEW_DEFINITION = ("f.first_order_date < c.order_date", "f.first_order_date < c.order_date - 90")
"""A change of notebook 4: a customer counts as returning from the 91st day after the first order on, which is none."""


@dataclass
class Shop:
    """A shop with two published days, and a development copy of the second by the changed notebook."""

    env: str
    landing: str


@pytest.fixture
def compare(shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Compare:
    """Return a function that runs ``daybook compare`` and returns its exit code and output."""

    def called(*arguments: str) -> tuple[int, str]:
        code, out, err = run_command(monkeypatch, capsys, "compare", *arguments, "--env", shop.env)
        assert not err
        return code, out

    return called


def read_changes(compare: Compare, *runs: str) -> dict[str, dict[str, Any]]:
    """Return the differing tables by name."""
    _, out = compare(*runs, "--json")
    assert not re.search("[0-9a-f]{32}", out), "a pseudonym is not shortened"
    found = {each["table"]: each for each in json.loads(out)["tables"]}
    assert {"gold.daily_sales", "silver.orders"} <= found.keys()
    changes = ("added", "removed", "changed", "schema_changes")
    return {name: each for name, each in found.items() if any(each[change] for change in changes)}


@pytest.fixture(scope="module", params=list(DAYS))
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    env, folder = request.param, tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAYBOOK_HOME", str(folder / "home"))
        if env == "local":
            found = Shop(env, load_settings(env).landing)
            generate(Path(found.landing), days=4, orders_per_day=20)
        else:
            found = Shop(env, str(request.getfixturevalue("shared_data") / env))
        home = DaybookHome(folder / "home")
        for day in DAYS[env]:
            execution, record = home.run(env, day, landing=found.landing)
            assert execution.status == "SUCCEEDED", record.reasons
        _run_changed_notebook(found, folder)
        yield found


def _run_changed_notebook(shop: Shop, folder: Path) -> None:
    """Compute the second day in the development copy by a changed copy of the notebooks."""
    project = folder / "project"
    for name in ("params", "notebooks"):
        shutil.copytree(PROJECT / name, project / name)
    (project / "orchestration").symlink_to(PROJECT / "orchestration")
    notebook = project / "notebooks" / "4_aggregate.ipynb"
    text = notebook.read_text(encoding="utf-8")
    assert NEW_DEFINITION[0] in text
    notebook.write_text(text.replace(*NEW_DEFINITION), encoding="utf-8")
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("DAYBOOK_PROJECT", str(project))
        changed.setenv("IPYTHONDIR", str(folder / "ipython"))
        changed.chdir(folder)
        changed.setattr(stages, "current", None)
        code_version.cache_clear()
        with new_session() as session:
            assert session.run_copy(DAYS[shop.env][1], {"landing": shop.landing}, env=shop.env) == "SUCCEEDED"
    code_version.cache_clear()


def test_changed_definition_is_the_only_difference(compare: Compare) -> None:
    found = read_changes(compare)
    assert list(found) == ["gold.daily_sales"]
    columns = {each["column"]: each for each in found["gold.daily_sales"]["columns"]}
    assert [name for name, each in columns.items() if each["changed"]] == ["returning_customers"]
    returning = columns["returning_customers"]
    assert int(returning["total_before"]) > int(returning["total_after"]) == 0


def test_difference_is_the_exit_code(compare: Compare, tmp_path: Path) -> None:
    code, out = compare("--fail-on-change", "--html", str(tmp_path / "page.html"))
    assert (code, "returning_customers" in out) == (1, True)
    assert "1 of 13 tables differ" in (tmp_path / "page.html").read_text(encoding="utf-8")
    today = datetime.now(timezone.utc).date().isoformat()
    assert compare("--against", today, "--fail-on-change")[0] == 0


def test_second_run_adds_its_day(shop: Shop, compare: Compare) -> None:
    found = read_changes(compare, *(f"daily-{day}-1" for day in DAYS[shop.env]))
    sales = found["gold.daily_sales"]
    assert (sales["added"], sales["removed"]) == (1, 0)
    assert sales["samples"][-1]["key"] == {"order_date": DAYS[shop.env][1]}
    assert found["silver.orders"]["added"] > 0
