"""Test that an erasure removes a person from all layers and files, and is finished after a kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daybook.engines import DuckDBEngine
from daybook.errors import LakeError, StageError, UsageError
from daybook.notebook.releases import digest_sql, list_landed_columns
from daybook.privacy import add_key
from daybook.privacy.erasure import erase_again, load_erased_pseudonyms
from daybook.privacy.rekey import rekey
from tests.conftest import Killed, Killer, Project
from tests.lake.writing import replace_date
from tests.privacy.erasure.conftest import ANN, ANNS, BOB, BOBS, COMMENT, FIRST, SECOND, Shop, landed

pytestmark = pytest.mark.slow

PERSONAL = (ANN, ANNS["email"], ANNS["phone"], ANNS["last_name"], COMMENT)


@pytest.mark.smoke
def test_erased_person_is_in_no_file_of_lake_or_archive(shop: Shop) -> None:
    shop.fill_lake(shop.lake(development="eve"))
    held = shop.files_with(*PERSONAL, shop.key_of(ANN))
    assert {name.split("/")[1] for name in held} == {"bronze", "quarantine", "silver", "versions", "gold", "dev", "candidate"}
    done = shop.erase()
    assert done.proof.is_clean
    assert done.proof.files > 20
    assert shop.files_with(*PERSONAL) == []
    assert {name.rsplit("/", 1)[0] for name in shop.files_with(shop.key_of(ANN))} == {"lake/control/erased", "archive/erasures"}


def test_rows_and_other_people_are_kept(shop: Shop) -> None:
    shop.fill_lake(shop.lake(development="eve"))
    bob = [row for row in shop.rows("bronze.customers", "customer_id", *BOBS) if row[0] == BOB]
    counts = {name: len(rows) for name, rows in shop.content_without_erased().items()}
    shop.erase()
    assert [row for row in shop.rows("bronze.customers", "customer_id", *BOBS) if row[0] == BOB] == bob != []
    after = {name: len(rows) for name, rows in shop.content_without_erased().items()}
    removed = {name: counts[name] - after[name] for name in counts if counts[name] != after[name]}
    people = ("silver.customers", "versions.customers", "gold.customer_rfm")
    assert removed == {f"{user}/{name}": 1 for user in ("", "eve") for name in people}


def test_personal_values_in_landed_rows_are_masked(shop: Shop) -> None:
    shop.erase()
    for table in ("bronze.customers", "quarantine.customers"):
        blank = [row for row in shop.rows(table, "customer_id", *ANNS) if row[0].startswith("[erased:")]
        assert blank
        assert {value for row in blank for value in row[1:]} == {""}
    assert shop.rows("bronze.reviews", "review_id", "order_id", "score", "comment") == [("R-1", "A-1", "1", "")]


def test_marks_of_an_id_are_equal_within_a_date_only(shop: Shop) -> None:
    shop.erase()
    marks = {
        (table, row[0]): row[1]
        for table in ("customers", "orders")
        for row in shop.rows(f"bronze.{table}", "run_date", "customer_id")
        if row[1].startswith("[erased")
    }
    assert marks["customers", FIRST] == marks["orders", FIRST] != marks["customers", SECOND] == marks["orders", SECOND]


def test_orders_lose_person_and_city_and_dates_are_stale(shop: Shop) -> None:
    shop.erase()
    for layer in ("silver", "versions"):
        expected = [("A-1", None, None), ("A-2", None, None), ("B-1", shop.key_of(BOB), "Wien")]
        assert shop.rows(f"{layer}.orders", "order_id", "customer_key", "city") == expected
        assert shop.rows(f"{layer}.customers", "customer_key") == [(shop.key_of(BOB),)]
    assert shop.stale_dates == {FIRST}


def test_record_has_only_the_pseudonym_of_the_person(shop: Shop) -> None:
    done = shop.erase(why="wrote on paper")
    assert done.record is not None
    record = json.loads(Path(done.record).read_text())
    assert record["pseudonyms"] == [shop.key_of(ANN)]
    assert (record["why"], record["order_dates_noted"], record["files_searched"]) == ("wrote on paper", 1, done.proof.files)
    assert record["rows"]["bronze.customers"] == 2
    assert not [value for value in (*PERSONAL, *ANNS.values()) if value in json.dumps(record, ensure_ascii=False)]


def test_damaged_landing_file_does_not_stop_an_erasure(shop: Shop) -> None:
    """Verify and record the erasure, and list the landing file that could not be searched."""
    damaged = Path(shop.settings.landing) / "late.csv.gz"
    damaged.write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xffcut")
    done = shop.erase()
    assert (done.proof.is_clean, done.is_verified, bool(done.record), list(done.unreadable)) == (
        True,
        False,
        True,
        [str(damaged)],
    )


@pytest.mark.parametrize("layer", ["gold", "versions"])
def test_damaged_table_does_not_stop_an_erasure(shop: Shop, layer: str) -> None:
    """Erase the rest, and list the table and its file as not searched."""
    table = "gold/customer_rfm" if layer == "gold" else "versions/customers"
    for path in Path(shop.root, table).rglob("*.parquet"):
        path.write_bytes(path.read_bytes()[:20])
    done = shop.erase()
    assert done.rows["silver.customers"] == 1
    assert {name for name in done.proof.unsearched if not name.endswith(".parquet")} == {f"{shop.root}/{table}"}
    assert done.record is not None
    record = json.loads(Path(done.record).read_text())
    assert (record["proved"], record["not_searched"]) == (False, done.proof.unsearched)


@pytest.mark.parametrize("file", ["bronze/orders/**/*.parquet", "quarantine/customers/_delta_log/*.json"])
def test_damaged_bronze_stops_an_erasure_before_changes(shop: Shop, file: str) -> None:
    for path in Path(shop.root).glob(file):
        path.write_bytes(path.read_bytes()[:-20])
    before = snapshot(shop.home)
    with pytest.raises(LakeError, match=r"could not be read .* so nothing was erased; restore the damaged file"):
        shop.erase()
    assert snapshot(shop.home) == before


def test_record_lists_what_was_not_searched(shop: Shop) -> None:
    (Path(shop.settings.landing) / f"of {ANNS['email']}.7z").write_bytes(b"7z\xbc\xaf\x27\x1cx")
    (Path(shop.settings.archive) / "gone").symlink_to("nowhere")
    done = shop.erase()
    assert (done.proof.matches, done.is_verified) == ({}, False)
    record = json.loads(Path(str(done.record)).read_text())
    assert record["not_searched"] == {f"{shop.settings.archive}/gone": "a link whose target is missing"}
    assert list(record["landing_files_not_searched"]) == [f"{shop.settings.landing}/of [erased].7z"]
    assert record["landing_files_with_the_person"] == [f"{shop.settings.landing}/customers.csv"]
    assert record["proved"] is False


@pytest.mark.parametrize("name", [".ipynb_checkpoints/3_transform-checkpoint.ipynb", "explore/mine.ipynb"])
def test_notebooks_of_the_checkout_are_searched(shop: Shop, project: Project, name: str) -> None:
    path = project.root / "notebooks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": [{"outputs": [{"text": [f"{ANNS['email']}\n"]}]}]}))
    assert list(shop.erase().proof.matches) == [str(path)]


def test_landing_files_with_the_person_are_listed_unchanged(shop: Shop) -> None:
    landing = Path(shop.settings.landing)
    before = (landing / "customers.csv").read_bytes()
    assert shop.erase().landing == [str(landing / "customers.csv")]
    assert (landing / "customers.csv").read_bytes() == before


def test_unknown_person_is_refused_without_changes(shop: Shop) -> None:
    before = snapshot(shop.home)
    with pytest.raises(UsageError) as caught:
        shop.erase("C-77777")
    assert str(caught.value) == "No customer of that id is known to params/local.yaml; nothing was changed."
    assert snapshot(shop.home) == before


def test_repeated_erasure_verifies_again(shop: Shop) -> None:
    shop.erase()
    content = shop.content()
    done = shop.erase()
    assert done.erased_before
    assert done.rows == {}
    assert done.proof.is_clean
    assert shop.content() == content


def test_new_rows_of_an_erased_person_are_erased(shop: Shop) -> None:
    shop.erase()
    shop.land("customers", FIRST, {"customer_id": ANN, **ANNS})
    done = shop.erase()
    assert done.rows["bronze.customers"] == 1
    assert shop.files_with(*PERSONAL) == []


def test_row_is_erased_after_its_linking_row_has_landed(shop: Shop) -> None:
    shop.erase()
    shop.land("reviews", SECOND, {"review_id": "R-2", "order_id": "A-2", "comment": COMMENT})
    done = erase_again(shop.settings, "routine", shop.note)
    assert done.rows == {"bronze.reviews": 1}
    assert shop.files_with(COMMENT) == []


def test_malformed_row_loses_the_values_of_the_person(shop: Shop) -> None:
    raw = f"{ANN},Ann,Zwölfaxing,{ANNS['email']},one,field,too,many"
    shop.land("products", FIRST, {"_problem": "8 fields", "_raw": raw}, {"_problem": "8 fields", "_raw": "P-9,of nobody"})
    shop.erase()
    texts = [row[0] for row in shop.rows("bronze.products", "_raw") if row[0]]
    assert "P-9,of nobody" in texts
    assert not [text for text in texts for value in (ANN, ANNS["email"]) if value in text]


def test_repairs_of_quarantined_rows_are_masked(shop: Shop) -> None:
    release = {
        "entity": "customers",
        "_source_file": f"customers/{FIRST}/customers.csv",
        "_row_number": 1,
        "digest": "of the row as it landed",
        "repairs": json.dumps({"first_name": "Anna", "country": "AT", "customer_id": ANN}),
    }
    replace_date(shop.lake(), "quarantine.releases", pa.Table.from_pylist([release]), FIRST)
    shop.erase()
    ((repairs, digest),) = shop.rows("quarantine.releases", "repairs", "digest")
    found = json.loads(repairs)
    assert (found["first_name"], found["country"], found["customer_id"][:8]) == ("", "AT", "[erased:")
    marks = [row[0] for row in shop.rows("bronze.customers", "customer_id", "run_date") if row[1] == FIRST]
    assert found["customer_id"] in marks
    engine = DuckDBEngine(shop.lake(), "UTC")
    row = f"bronze.customers WHERE run_date = DATE '{FIRST}' AND _row_number = 1"
    assert engine.fetch_row(f"SELECT {digest_sql(list_landed_columns(engine, 'bronze.customers'))} FROM {row}") == (digest,)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("archive/run_date=2025-11-01/daily-2025-11-01-1/3_transform.attempt-1.html", f"<td>{ANNS['email']}</td>"),
        ("archive/run_date=2025-11-01/daily-2025-11-01-1/1.json", json.dumps({"a": json.dumps("Ann Zwölfaxing again")})),
        ("logs/daily-2025-11-01-1/jr_1.log", f"Conversion failed for {ANN}"),
        ("executions/local/daily-2025-11-01-1.jsonl", '{"Cause": "{key}"}'),
        ("report/index.html", f"{ANNS['phone']}"),
    ],
)
def test_file_with_the_person_fails_the_erasure(shop: Shop, file: str, text: str) -> None:
    path = shop.home / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("{key}", shop.key_of(ANN)))
    done = shop.erase()
    assert sorted(done.proof.matches) == [str(path)]
    assert done.record is None
    path.unlink()
    assert shop.erase().proof.is_clean


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_erasure_killed_at_any_write_is_finished_by_the_next(shop: Shop, filled: Path, killer: Killer, part: int) -> None:
    writes = count_writes(shop, killer)
    finish_killed(shop, filled, killer, [*range(1, 40), *range(40, writes, 30), *range(writes - 6, writes + 1)][part::4])


@pytest.mark.slow
def test_erasure_killed_at_some_writes_is_finished_by_the_next(shop: Shop, filled: Path, killer: Killer) -> None:
    writes = count_writes(shop, killer)
    finish_killed(shop, filled, killer, [2, 9, 25, writes - 40, writes])


def count_writes(shop: Shop, killer: Killer) -> int:
    """Run an erasure and return the number of its writes."""
    killer.aim(None)
    shop.erase()
    return killer.writes


def finish_killed(shop: Shop, filled: Path, killer: Killer, numbers: list[int]) -> None:
    """Kill an erasure at each of some writes, and compare the result of the next try with an undisturbed one."""
    undisturbed, record = shop.content(), record_of(shop)
    for number in numbers:
        shutil.rmtree(shop.home)
        shutil.copytree(filled, shop.home)
        killer.aim(number)
        with pytest.raises(Killed):
            shop.erase()
        killer.aim(None)
        done = shop.erase()
        assert done.proof.is_clean, f"write {number}: {done.proof.matches}"
        assert shop.content() == undisturbed, f"write {number}"
        assert shop.files_with(*PERSONAL) == [], f"write {number}"
        assert shop.stale_dates == {FIRST}
        assert record_of(shop) == record, f"write {number}"


def record_of(shop: Shop) -> dict[str, Any]:
    """Return the first record of the erasure without times and numbers of files."""
    records = [json.loads(path.read_text()) for path in (Path(shop.settings.archive) / "erasures").iterdir()]
    (record,) = (each for each in records if not each["again"])
    return {name: record[name] for name in ("pseudonyms", "rows", "also", "order_dates_noted", "proved", "why")}


def test_killed_erasure_is_finished_without_the_id(shop: Shop, killer: Killer) -> None:
    undone = shop.content_without_erased()
    killer.aim(12)
    with pytest.raises(Killed):
        shop.erase()
    killer.aim(None)
    erase_again(shop.settings, "finishing", shop.note)
    assert shop.files_with(*PERSONAL) == []
    assert shop.content_without_erased() != undone


def test_person_stays_erased_after_a_rekey(shop: Shop) -> None:
    shop.erase()
    old = shop.key_of(ANN)
    rekey(shop.root, shop.settings.pii_key, "local")
    assert load_erased_pseudonyms(shop.root) == {shop.key_of(ANN)} != {old}
    assert shop.rows("silver.customers", "customer_key") == [(shop.key_of(BOB),)]
    assert shop.erase().erased_before


def test_erasure_after_a_rekey_finds_the_person(shop: Shop) -> None:
    old = shop.key_of(ANN)
    rekey(shop.root, shop.settings.pii_key, "local")
    done = shop.erase()
    assert done.rows["silver.orders"] == 2
    assert done.proof.is_clean
    assert shop.files_with(*PERSONAL, old) == []


def test_pseudonyms_of_earlier_keys_are_searched_for(shop: Shop) -> None:
    old = shop.key_of(ANN)
    rekey(shop.root, shop.settings.pii_key, "local")
    note = shop.home / "archive" / "note.txt"
    note.write_text(f"customer {old}")
    assert list(shop.erase().proof.matches) == [str(note)]


def test_erasure_refuses_lake_with_older_key(shop: Shop) -> None:
    add_key(shop.settings.pii_key)
    with pytest.raises(StageError, match="convert them with `daybook rekey --env local`"):
        shop.erase()


def test_erase_again_without_erased_people_raises(shop: Shop) -> None:
    with pytest.raises(UsageError, match="Nobody was erased from"):
        erase_again(shop.settings, "", shop.note)


def test_orphan_file_of_an_unborn_table_is_removed(shop: Shop) -> None:
    stray = Path(shop.root) / "dev" / "eve" / "bronze" / "customers" / "part-0.parquet"
    stray.parent.mkdir(parents=True)
    pq.write_table(landed("customers", FIRST, [{"customer_id": ANN, **ANNS}]), stray)
    assert shop.erase().proof.is_clean
    assert not stray.exists()


def test_file_found_by_the_first_try_fails_later_tries(shop: Shop) -> None:
    report = shop.home / "archive" / "run_date=2025-11-01" / "daily-2025-11-01-1" / "3_transform.attempt-1.html"
    report.write_text(f"<td>{ANNS['email']}</td>")
    assert sorted(shop.erase().proof.matches) == [str(report)]
    for again in (shop.erase, lambda: erase_again(shop.settings, "", shop.note)):
        done = again()
        assert done.proof.matches == {str(report): "unchanged since an earlier try found the person in it"}
        assert done.record is None
    report.write_text("<td></td>")
    assert shop.erase().proof.is_clean


def test_file_with_the_person_is_known_after_a_killed_try(shop: Shop, killer: Killer) -> None:
    report = shop.home / "archive" / "note.html"
    report.write_text(f"<td>{ANNS['email']}</td>")
    killer.aim(60)
    with pytest.raises(Killed):
        shop.erase()
    killer.aim(None)
    assert list(shop.erase().proof.matches) == [str(report)]


def test_file_in_the_lake_with_a_match_stays_in_the_plan(shop: Shop) -> None:
    note = Path(shop.root) / "notes" / "about.txt"
    note.parent.mkdir()
    note.write_text(ANNS["email"])
    for _ in range(2):
        assert list(shop.erase().proof.matches) == [str(note)]
    note.unlink()
    assert shop.erase().proof.is_clean


def test_quarantine_is_erased_by_its_own_row_numbers(shop: Shop) -> None:
    shop.land("customers", FIRST, {"customer_id": BOB, **BOBS}, {"customer_id": ANN, **ANNS})
    assert shop.erase().proof.is_clean
    names = [(row[0][:8], row[1]) for row in shop.rows("quarantine.customers", "customer_id", "last_name")]
    assert names == [(BOB, BOBS["last_name"]), ("[erased:", "")]


def test_quarantine_is_erased_without_rows_in_bronze(shop: Shop) -> None:
    review = {"review_id": "R-1", "order_id": "A-1", "score": "x", "comment": COMMENT}
    replace_date(shop.lake(), "quarantine.reviews", landed("reviews", SECOND, [review]), SECOND)
    bobs = {"review_id": "R-9", "order_id": "B-1", "score": "1", "comment": "from Bob, all was fine here"}
    shop.land("reviews", SECOND, bobs)
    assert shop.erase().proof.is_clean
    assert shop.rows("quarantine.reviews", "review_id", "comment") == [("R-1", "")]
    assert shop.rows("bronze.reviews", "review_id", "comment") == [("R-9", bobs["comment"])]


def test_reason_in_the_record_has_no_personal_values(shop: Shop) -> None:
    why = f"request of Ms {ANNS['last_name']} of {ANNS['phone']}, {ANNS['email']}, by someone@else.example, no. {ANN}"
    done = shop.erase(why=why)
    assert done.record is not None
    reason = json.loads(Path(done.record).read_text())["why"]
    assert reason == "request of Ms [erased] of [erased], [erased], by [redacted:email], no. [erased]"


def test_later_try_keeps_the_masked_reason_of_the_first(shop: Shop) -> None:
    report = shop.home / "archive" / "note.html"
    report.write_text(ANNS["email"])
    shop.erase(why=f"request of {ANNS['last_name']}")
    report.unlink()
    done = shop.erase(why=f"once more for {ANNS['last_name']}")
    assert done.record is not None
    assert json.loads(Path(done.record).read_text())["why"] == "request of [erased]"


def test_short_id_is_replaced_in_whole_fields_only(shop: Shop) -> None:
    shop.land("customers", FIRST, {"customer_id": "7", **BOBS})
    others = "P-9,Kettle,12.50,2025-11-7,7 pcs"
    shop.land("products", FIRST, {"_problem": "x", "_raw": others}, {"_problem": "x", "_raw": "7,Bob,2025-11-7,one,too"})
    release = {
        "entity": "products",
        "_source_file": "products/7/products.csv",
        "_row_number": 1,
        "digest": "x",
        "repairs": json.dumps({"stock": "7"}),
        "waived": "[]",
        "released_by": "eve",
        "why": "7 pieces, as counted",
    }
    replace_date(shop.lake(), "quarantine.releases", pa.Table.from_pylist([release]), FIRST)
    before = shop.rows("quarantine.releases")
    done = shop.erase("7")
    assert done.proof.is_clean, done.proof.matches
    assert {row[0] for row in shop.rows("bronze.products", "_raw")} >= {others, "[erased],Bob,2025-11-7,one,too"}
    assert shop.rows("quarantine.releases") == before


def snapshot(home: Path) -> dict[str, Any]:
    """Return the bytes of every file."""
    return {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}
