"""Test confirmations, errors, output and exit codes of `daybook erase` and `daybook rekey`."""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daybook.privacy import load_keys
from daybook.records.archive import Archive
from daybook.records.locks import DateLocks
from tests.cli.conftest import Call, call
from tests.privacy.erasure.conftest import ANN, ANNS, Shop

pytestmark = pytest.mark.slow

__all__ = ["call"]


@pytest.mark.smoke
def test_erase_prints_changes_and_record(shop: Shop, call: Call) -> None:
    code, out, _ = call("erase", "--customer", ANN, "--why", "asked", "--yes")
    assert code == 0
    assert "2 rows of silver.orders" in out
    assert "The next run computes 1 order dates again." in out
    assert f"this file of the source still contains the person: {shop.settings.landing}/customers.csv" in out
    (record,) = (Path(shop.settings.archive) / "erasures").iterdir()
    assert f"nothing found. Record: {record}" in out
    assert not [value for value in (ANN, *ANNS.values()) if value in out]


def test_repeated_erase_succeeds(shop: Shop, call: Call) -> None:
    shop.erase()
    code, out, _ = call("erase", "--customer", ANN, "--yes")
    assert (code, "Already erased; no new data of the person was found." in out) == (0, True)
    code, out, _ = call("erase", "--again", "--yes")
    assert (code, "Already erased; no new data of the person was found." in out) == (0, True)


def test_error_for_unknown_customer_hides_the_id(shop: Shop, call: Call) -> None:
    code, out, error = call("erase", "--customer", "C-77777", "--yes")
    assert (code, out) == (2, "")
    assert error == "No customer of that id is known to params/local.yaml; nothing was changed.\n"


def test_unverified_erase_fails_and_lists_files(shop: Shop, call: Call) -> None:
    left = Path(shop.settings.archive) / "note.txt"
    left.write_text(f"ask {ANNS['email']}")
    code, out, _ = call("erase", "--customer", ANN, "--yes")
    assert code == 1
    assert "Not proved: 1 of" in out
    assert f"{left} (its text)" in out
    assert not (Path(shop.settings.archive) / "erasures").exists()


def test_erase_exits_with_1_if_a_file_was_not_searched(shop: Shop, call: Call) -> None:
    damaged = Path(shop.settings.landing) / "late.csv.gz"
    damaged.write_bytes(gzip.compress(b"nobody" * 1000)[:-5])
    code, out, _ = call("erase", "--customer", ANN, "--yes")
    (record,) = (Path(shop.settings.archive) / "erasures").iterdir()
    assert code == 1
    assert f"could not be searched to its end and may contain the person: {damaged} (Compressed file ended before" in out
    assert "nothing was found, but 1 could not be searched. Restore or remove them, then" in out
    assert f"Record: {record}" in out
    damaged.unlink()
    assert call("erase", "--customer", ANN, "--yes")[0] == 0


def test_erase_prints_counts_before_confirmation(shop: Shop, call: Call) -> None:
    before = snapshot(shop.home)
    code, out, _ = call("erase", "--customer", ANN, answer="n")
    assert (code, "2 rows of silver.orders" in out) == (1, True)
    code, out, _ = call("erase", "--customer", ANN, "--dry-run")
    assert (code, "2 rows of silver.orders" in out) == (0, True)
    assert snapshot(shop.home) == before


def test_erase_prints_json(shop: Shop, call: Call) -> None:
    (Path(shop.settings.archive) / "gone").symlink_to("nowhere")
    missing = {f"{shop.settings.archive}/gone": "a link whose target is missing"}
    code, out, _ = call("erase", "--customer", ANN, "--json", "--dry-run")
    output = json.loads(out)
    assert (code, output["dry_run"], output["rows"]["silver.orders"], output["not_searched"]) == (0, True, 2, missing)
    code, out, _ = call("erase", "--customer", ANN, "--json", "--yes")
    output = json.loads(out)
    assert (code, output["dry_run"], output["proved"], output["found"], output["not_searched"]) == (
        1,
        False,
        False,
        {},
        missing,
    )
    assert Path(output["record"]).exists()
    code, _, error = call("erase", "--customer", ANN, "--json")
    assert (code, error) == (2, "--json cannot ask for confirmation; add --yes or --dry-run.\n")


@pytest.mark.parametrize("arguments", [[], ["--customer", ANN, "--again"], ["--customer", " "]])
def test_erase_requires_customer_or_again(shop: Shop, call: Call, arguments: list[str]) -> None:
    code, _, error = call("erase", *arguments, "--yes")
    assert (code, error) == (2, "Give --customer ID, or --again to repeat all earlier erasures.\n")


@pytest.mark.parametrize("arguments", [["erase", "--customer", ANN], ["rekey"]])
def test_declined_confirmation_changes_nothing(shop: Shop, call: Call, arguments: list[str]) -> None:
    before = snapshot(shop.home)
    code, _, _ = call(*arguments, answer="n")
    assert code == 1
    assert snapshot(shop.home) == before


@pytest.mark.parametrize("arguments", [["erase", "--customer", ANN], ["rekey"]])
def test_erase_is_refused_while_a_run_is_in_progress(shop: Shop, call: Call, arguments: list[str]) -> None:
    run_id = Archive(shop.settings.archive).start_run(date(2025, 11, 2), {})
    with DateLocks(shop.settings.archive, [date(2025, 11, 2)]) as lock:
        lock.write_holder(run_id)
        code, _, error = call(*arguments, "--yes")
        assert code == 2
        assert f"The run {run_id} has not ended" in error
        assert "--while-running" in error
        code, _, _ = call(*arguments, "--yes", "--while-running")
        assert code == 0


@pytest.mark.parametrize("arguments", [["erase", "--customer", ANN], ["rekey"]])
def test_old_interrupted_run_does_not_block_erase(shop: Shop, call: Call, arguments: list[str]) -> None:
    store = Archive(shop.settings.archive).store
    store.create("run_date=2025-11-02/daily-2025-11-02-1/started.json", b'{"started_at": "2025-11-03T02:00:00.000Z"}')
    assert call(*arguments, "--yes")[0] == 0


def test_rekey_prints_tables_and_generations(shop: Shop, call: Call) -> None:
    code, out, _ = call("rekey", "--yes")
    assert code == 0
    assert "5 tables rewritten from generation 1 of the key to 2" in out
    assert "silver.customers, silver.orders, versions.customers, versions.orders" in out
    assert "Back up" in out
    assert len(load_keys(shop.settings.pii_key)) == 2


def snapshot(home: Path) -> dict[str, Any]:
    """Return the bytes of every file."""
    return {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}
