"""Test patterns of e-mail addresses and telephone, card and account numbers."""

from __future__ import annotations

import hashlib

import pytest

from daybook.privacy.patterns import find_patterns


def shapes(text: str) -> list[tuple[str, str]]:
    return sorted({(text[start:end], name) for start, end, name in find_patterns(text)})


@pytest.mark.parametrize(
    "address", ["zoe.okanarie@example.com", "Zoë.O'K@büro.example", "a+b%c@sub.example.co.uk", "x_1@example.org"]
)
def test_email_address_is_found(address: str) -> None:
    assert shapes(f"KeyError: '{address}', so it stops") == [(address, "email")]


@pytest.mark.parametrize(
    "number",
    [
        *("+49 30 23125 123", "+493023125123", "+49 (0)30 23125-123", "+1 (555) 123-4567", "+49\u00a030\u00a023125\u00a0123"),
        *("0049 30 23125123", "00493023125123", "(030) 23125 123", "030/23125123", "0171-1234567"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "phone:{}", "Vb,{},x", "<td>{}</td>", "{} 2025-11-30 10:00:00", "call {}."])
def test_telephone_number_ends_before_other_digits(number: str, around: str) -> None:
    assert shapes(around.format(number)) == [(number, "phone")]


@pytest.mark.parametrize("number", ["4111 1111 1111 1111", "4111111111111111", "5555-5555-5555-4444", "378282246310005"])
def test_card_number_needs_a_valid_check_digit(number: str) -> None:
    assert shapes(f"paid with {number}, twice") == [(number, "card")]
    assert shapes(f"paid with {number[:-1]}{(int(number[-1]) + 1) % 10}, twice") == []


@pytest.mark.parametrize("number", ["DE89 3704 0044 0532 0130 00", "DE89370400440532013000", "gb82west12345698765432"])
def test_iban_needs_valid_length_and_check_digits(number: str) -> None:
    assert (number, "iban") in shapes(f"to {number} on Monday")
    assert not [name for _, name in shapes(f"to {number[:-1]}{(int(number[-1]) + 1) % 10} on Monday") if name == "iban"]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2025-11-30T02:00:00.123456+00:00",
            "01.12.2025 10:00",
            "01-12-2025",
            "+0200",
            "daily-2025-11-30-1",
            "1.2.2",
            "v0.10.2",
        ),
        *("+3.14159265", "-0.0012345678", "1e+09 12345678", "12,345,678.90 EUR", "1764547200000000000", "1764547200000"),
        *("00000012345", "0930 1200", "C-00042", "#012345", "0/0 of 1,000,000 rows", "5f0e91ab8c2d4e6f8091a2b3c4d5e6f7"),
        *("d656965055e4028c4d476bf302122b8ff50bc33434da6081f79d83a1e0796a9d", "a@b.T", "@property", "x @ y.T", "user@host"),
        *(
            "0301-2025-778",
            "0815 4711 22",
            "order 4111111111111111",
            '"order_id": 4111111111111111',
            "invoice no. 5555555555554444",
        ),
        *('<path d="M030 23125123 z"/>', '<rect x="0130 4567890"/>', "/srv/a/00491234567890/b", "85123A 536365 17850"),
    ],
)
def test_common_numbers_in_records_are_not_found(text: str) -> None:
    assert shapes(text) == []


def test_telephone_link_in_a_tag_is_found() -> None:
    assert shapes('<a href="tel:+493023125123">call</a>') == [("+493023125123", "phone")]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("4111 1111 1111 1111 12/27", "[] 12/27"),
        ("4111 1111 1111 1111 123", "[] 123"),
        ("4111111111111111 12/27", "[] 12/27"),
        ("5555555555554444 3 pcs", "[] 3 pcs"),
        ("2025-11-30 4111 1111 1111 1111", "2025-11-30 []"),
        ("LIKE '%jane@example.com%'", "LIKE '%[]%'"),
        ("-jane@example.com", "-[]"),
        ("jane@example.com2", "[]2"),
        ("Tel.+49 30 1234567", "Tel.[]"),
    ],
)
def test_adjacent_text_does_not_hide_values(text: str, left: str) -> None:
    hits = sorted(find_patterns(text), reverse=True)
    for start, end, _ in hits:
        text = f"{text[:start]}[]{text[end:]}"
    assert text == left


@pytest.mark.parametrize("text", ["ad61ab1476b0c6b0b1a1a1a13be69251", "4006381333931", "001234567890", "+12345678"])
def test_ids_and_differences_are_not_found(text: str) -> None:
    assert list(find_patterns(text)) == []


def test_alphanumeric_ids_are_not_found() -> None:
    digests = (hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest() for number in range(100_000))
    assert [digest for digest in digests if list(find_patterns(digest))] == []
