"""Test the landing files: deltas, references, encodings and fictional personal data."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from datetime import date
from decimal import Decimal

from demo_shop import COLUMNS


def test_file_holds_only_events_of_its_day(shop):
    for entity, column in [("orders", 11), ("returns", 6), ("reviews", 5)]:
        for day in shop.summary.days:
            complete = [row for row in shop.read(entity, day) if len(row) == len(COLUMNS[entity])]
            stamped = [row[column][:10] for row in complete if re.match(r"20\d\d-", row[column])]
            wrong = [text for text in stamped if text not in (day.isoformat(), "2025-02-30")]
            assert not wrong, (entity, day)


def test_status_change_lands_as_a_full_row_with_its_time(shop):
    column = {"created": 3, "paid": 4, "shipped": 5, "delivered": 6}
    landed = defaultdict(list)
    for row in shop.read_valid("orders"):
        landed[row[0]].append(row)
        if row[2] != "cancelled":
            assert row[column[row[2]]] == row[11]
    assert any(len({row[11][:10] for row in rows}) >= 3 for rows in landed.values())


def test_every_reference_has_a_landed_record(shop):
    def landed(entity, width=1):
        """Return the keys of all landed records of an entity, broken ones included."""
        whole = {tuple(row[:width]) for row in shop.read_valid(entity)}
        return whole | {tuple(each.key.split("/")) for each in shop.summary.broken() if each.entity == entity}

    def referred(entity, *columns):
        return {tuple(row[column] for column in columns) for row in shop.read_valid(entity)}

    assert referred("orders", 1) <= landed("customers")
    assert referred("products", 2) - {("K-99",)} <= landed("categories")
    assert referred("order_items", 2) <= landed("products")
    assert referred("order_items", 3) <= landed("sellers")
    assert referred("order_items", 0) <= landed("orders")
    assert referred("payments", 0) <= landed("orders")
    assert referred("reviews", 1) <= landed("orders")
    assert referred("returns", 1, 2) <= landed("order_items", width=2)


def test_day_contains_the_products_it_sold(shop):
    for day in shop.summary.days:
        broken = {each.key for each in shop.summary.broken() if each.day == day and each.entity == "products"}
        brought = {row[0] for row in shop.read("products", day)} | broken
        sold = {row[2] for row in shop.read("order_items", day) if re.fullmatch(r"P-\d{4}", (row + [""] * 3)[2])}
        assert sold <= brought


def test_categories_land_in_full_and_sellers_as_deltas(shop):
    added = Counter((each.entity, each.day) for each in shop.summary.faults if each.row)
    assert all(len(shop.read("categories", day)) - added["categories", day] == 14 for day in shop.summary.days)
    first, *others = [len(shop.read("sellers", day)) - added["sellers", day] for day in shop.summary.days]
    assert first == 25
    assert set(others) == {0, 1}


def test_payments_equal_their_order_lines_to_the_cent(shop):
    owed, paid = defaultdict(Decimal), defaultdict(Decimal)
    for row in shop.read_valid("order_items"):
        owed[row[0]] += int(row[4]) * Decimal(row[5]) + Decimal(row[6])
    for row in shop.read_valid("payments"):
        paid[row[0]] += Decimal(row[4])
    broken = {each.key.split("/")[0] for each in shop.summary.broken() if each.entity in ("order_items", "payments")}
    whole = set(paid) - broken
    assert len(whole) > 0.95 * len(paid)
    assert all(paid[order_id] == owed[order_id] for order_id in whole)


def test_payments_land_on_the_day_of_payment(shop):
    paid_on = {row[0]: row[4][:10] for row in shop.read_valid("orders") if row[2] == "paid"}
    late = 0
    for day in shop.summary.days:
        for row in shop.read("payments", day):
            assert paid_on.get(row[0], day.isoformat()) == day.isoformat()
        ordered = {row[0] for row in shop.read("order_items", day)}
        late += sum(row[0] not in ordered for row in shop.read("payments", day))
    assert late > 100, "some payments must land a day or two after the order"


def test_only_customers_on_mondays_have_a_byte_order_mark(shop):
    for entity in COLUMNS:
        for day in shop.summary.days:
            marked = shop.path(entity, day).read_bytes().startswith(b"\xef\xbb\xbf")
            assert marked == (entity == "customers" and day.weekday() == 0), (entity, day)


def test_sellers_are_encoded_in_windows_1252(shop):
    content = shop.path("sellers", shop.summary.days[0]).read_bytes()
    assert "Möbel, Licht & Mehr".encode("cp1252") in content
    assert "München" in content.decode("cp1252")


def test_comments_contain_newlines_commas_and_quotes(shop):
    comments = [row[4] for row in shop.read_valid("reviews")]
    assert all(any(mark in comment for comment in comments) for mark in ("\n", ",", '"'))


def test_some_comments_contain_personal_data(shop):
    comments = [row[4] for row in shop.read_valid("reviews")]
    assert 0 < sum("@example.com" in comment for comment in comments) < 0.1 * len(comments)
    assert 0 < sum("Viele Grüße, " in comment for comment in comments) < 0.1 * len(comments)


def test_addresses_and_numbers_are_fictional(shop):
    fictional = re.compile(r"\+49 (30 23125|69 90009|40 66969|221 4710|89 99998)\d{3}")
    for row in shop.read_valid("customers"):
        assert row[3].endswith("@example.com") and row[3].isascii()
        assert row[4] == "" or fictional.fullmatch(row[4])


def test_names_and_cities_have_umlauts(shop):
    text = shop.path("customers", date(2025, 11, 28)).read_text(encoding="utf-8")
    assert all(letter in text for letter in "äöüßé")
