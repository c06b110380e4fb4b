"""What looks like personal data whoever it belongs to: e-mail addresses, telephone, card and account numbers.

Here: finding them in a text by their form and check digits. Not here: the values of a run (``daybook.pii.values``), what
happens to a hit (``daybook.pii.redaction``). Records are full of digits that are none of these (dates, money, versions,
digests, ids), so a form alone is not enough where a check digit or a prefix can be asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Hit = tuple[int, int, str]
"""From, up to, and what it is."""

_EMAIL = re.compile(r"(?<![\w+])[\w+][\w.+%'-]{0,63}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![^\W\d_])")
_BETWEEN = r"(?:[ \u00a0\u202f./\u2010-\u2013-]| ?\(|\) ?|\)/| [/-] )?"
# The others say first what their matches begin with: most places of a text are passed by that.
_INTERNATIONAL = re.compile(rf"(?=[+0])(?:(?<![\w+])\+|(?<![\w.+/#-])00(?=[1-9]))(?:\d{_BETWEEN}){{7,19}}")
_NATIONAL = re.compile(rf"(?=\(?0[1-9])(?<![\w.+/#-])(?<!\d:)\(?0[1-9](?:\d{_BETWEEN}){{5,16}}")
_DATE = re.compile(r"\d{1,4}([./-])\d{1,2}\1\d{1,4}")
_GOES_ON = re.compile(r"[\w%]|[.,:]\d")
_CARD = re.compile(r"(?=[2-6])(?<![\w.+-])(?=([2-6]\d{3}(?:[ -]?\d){9,15}(?![\w-]|\.\d)))")
_IBAN = re.compile(r"(?<![\w-])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,3})?(?!\w)")
_TAG = re.compile(r"<[A-Za-z/!][^<>]*>")

_CARD_LENGTHS = (
    (re.compile(r"4"), {16, 19}),  # those of 13 are long gone, and every tenth article number would be one
    (re.compile(r"5[1-5]|2[2-7]"), {16}),
    (re.compile(r"3[47]"), {15}),
    (re.compile(r"3[0689]"), {14}),
    (re.compile(r"35"), {16}),
    (re.compile(r"6"), {16, 17, 18, 19}),
)
"""How many digits a card of a scheme has, by its first ones (ISO/IEC 7812)."""

_IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 "
        "FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 "
        "LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 "
        "RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30",
    )
}
"""The length of an account number by country (ISO 13616's registry)."""


def find_shapes(text: str) -> Iterator[Hit]:
    """Every e-mail address, telephone, card and account number in a text, in no order."""
    if "@" in text:
        for found in _EMAIL.finditer(text):
            yield (*found.span(), "email")
    for found in _IBAN.finditer(text):
        compact = found[0].replace(" ", "").upper()
        # What follows may be a word of its own, so the country says how much of it is the number.
        length = _IBAN_LENGTHS.get(compact[:2], 0)
        if length and len(compact) >= length and _is_iban(compact[:length]):
            end = _end_of(found, length)
            # An id of letters and digits may begin like one.
            if not text[end : end + 1].isalnum():
                yield (found.start(), end, "iban")
    for start, end, name in _numbers(text):
        if not _in_tag(text, start):
            yield (start, end, name)


def _numbers(text: str) -> Iterator[Hit]:
    for found in _CARD.finditer(text):
        # A date of expiry, a check number or just another number may follow.
        for group in reversed(list(re.finditer(r"\d+", found[1]))):
            if _is_card(re.sub(r"\D", "", found[1][: group.end()])):
                yield (found.start(), found.start() + group.end(), "card")
                break
    for pattern in (_INTERNATIONAL, _NATIONAL):
        for found in pattern.finditer(text):
            end = _phone_end(text, found)
            if end:
                yield (found.start(), end, "phone")


def _end_of(found: re.Match[str], characters: int) -> int:
    """Where the first so many characters of a match end, not counting spaces."""
    counted = 0
    for position, character in enumerate(found[0], start=found.start()):
        counted += character != " "
        if counted == characters:
            return position + 1
    return found.end()


def _phone_end(text: str, found: re.Match[str]) -> int:
    """Where a telephone number that begins here ends; 0 where there is none. What follows it may be digits too: a date, say."""
    for group in reversed(list(re.finditer(r"\d+", found[0]))):
        end = found.start() + group.end()
        begins_date = _DATE.match(text, found.start() + group.start())
        if begins_date and begins_date.end() > end:
            continue
        if not _GOES_ON.match(text, end) and _is_phone(text[found.start() : end]):
            return end
    return 0


def _is_phone(text: str) -> bool:
    groups = re.findall(r"\d+", text)
    digits = len("".join(groups))
    # A decimal number has one point and nothing else: +3.14159265.
    if _DATE.search(text) or (len(groups) == 2 and "." in text):
        return False
    if text.startswith("+"):
        # What has no separators may be a difference with its sign.
        return (8 if len(groups) > 1 else 10) <= digits <= 16
    if text.startswith("00"):
        return 10 <= digits <= 17 and (len(groups) > 1 or digits >= 13)
    # Without a prefix it takes an area code, set apart, to tell it from an id that begins with a zero.
    return 9 <= digits <= 14 and len(groups) > 1 and len(groups[0]) >= 3


def _is_card(digits: str) -> bool:
    if not any(scheme.match(digits) and len(digits) in lengths for scheme, lengths in _CARD_LENGTHS):
        return False
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    total = sum(int(digit) for digit in digits[-1::-2]) + sum(each - 9 if each > 9 else each for each in doubled)
    return total % 10 == 0 and len(set(digits)) > 1


def _is_iban(compact: str) -> bool:
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1


def _in_tag(text: str, position: int) -> bool:
    """Whether a place lies within a tag of HTML or SVG, whose attributes are full of numbers; but tel: is a telephone."""
    opened = text.rfind("<", max(0, position - 100_000), position)
    if opened < 0 or text.find(">", opened, position) >= 0:
        return False
    return _TAG.match(text, opened) is not None and not text.endswith("tel:", opened, position)
