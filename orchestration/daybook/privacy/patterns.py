"""What looks like personal data whoever it belongs to: e-mail addresses, telephone, card and account numbers.

Records are full of digits that are none of these (dates, money, versions, digests, ids), so a form alone is not enough where a
check digit or a prefix can be asked for.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from types import ModuleType

from daybook.privacy.normalize import fold_with_positions

Hit = tuple[int, int, str]
"""From, up to, and what it is."""

_EMAIL = re.compile(r"(?<![\w+])[\w+][\w.+%'-]{0,63}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![^\W\d_])")
_SEPARATOR = r"(?:[ \u00a0\u202f./\u2010-\u2013-]| ?\(|\) ?|\)/| [/-] )?"
# The others say first what their matches begin with: most places of a text are passed by that.
_INTERNATIONAL = re.compile(rf"(?=[+0])(?:(?<![\w+])\+|(?<![\w.+/#-])00(?=[1-9]))(?:\d{_SEPARATOR}){{7,19}}")
_NATIONAL = re.compile(rf"(?=\(?0[1-9])(?<![\w.+/#-])(?<!\d:)\(?0[1-9](?:\d{_SEPARATOR}){{5,16}}")
_DATE = re.compile(r"\d{1,4}([./-])\d{1,2}\1\d{1,4}")
_CONTINUATION = re.compile(r"[\w%]|[.,:]\d")
_CARD = re.compile(r"(?=[2-6])(?<![\w.+-])(?=([2-6]\d{3}(?:[ -]?\d){9,15}(?![\w-]|\.\d)))")
_IBAN = re.compile(r"(?<![\w-])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,3})?(?!\w)")
_TAG = re.compile(r"<[A-Za-z/!][^<>]*>")
_AREA_CODE = re.compile(r"\(|\d+ ?/")
_YEAR = re.compile(r"(?:19|20)\d\d")

_IBAN_MIN_LENGTH = 15
"""The length of the shortest account numbers, those of Norway."""

_NUMBER_LABEL = re.compile(
    r"(?:\b|_)(?:orders?|invoices?|items?|articles?|skus?|products?|parcels?|shipments?|tracking|tickets?|receipts?|references?|ref|"
    r"bestellungen|bestellung|rechnung|artikel|sendung)(?:[ _-]?(?:id|no|nr|number|nummer|key))?['\"]?[ .:=#(\[]{0,3}['\"]?$"
)
_NUMBER_LABEL_MAX_LENGTH = 40
"""A label of another number directly before one: the digits of an order number agree with any check digit in ten."""

_CARD_LENGTHS = (
    (re.compile(r"4"), {16, 19}),  # Those of 13 digits are no longer issued.
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), {16}),
    (re.compile(r"3[47]"), {15}),
    (re.compile(r"30[0-5]|3095|36|3[89]"), {14}),
    (re.compile(r"35(?:2[89]|[3-8])"), {16}),
    (re.compile(r"6011|62|64[4-9]|65"), {16, 17, 18, 19}),
    (re.compile(r"5018|5020|5038|5893|6304|6759|676[1-3]"), {16, 17, 18, 19}),
)
"""How many digits a card of a scheme has, by its first ones (ISO/IEC 7812)."""


def find_patterns(text: str) -> Iterator[Hit]:
    """Yield every e-mail address, telephone, card and account number in a text, in no order."""
    plain = fold_with_positions(text)
    for start, end, name in _find_folded_patterns(plain.text):
        yield (*plain.span(start, end), name)


def _find_folded_patterns(text: str) -> Iterator[Hit]:
    if "@" in text:
        for found in _EMAIL.finditer(text):
            yield (*found.span(), "email")
    for found in _IBAN.finditer(text):
        compact = found[0].replace(" ", "").upper()
        # What follows may be a word of its own: only one length is right for a country.
        length = next((length for length in range(len(compact), _IBAN_MIN_LENGTH - 1, -1) if _is_iban(compact[:length])), 0)
        if length:
            end = _end_position(found, length)
            # An id of letters and digits may begin like one.
            if not text[end : end + 1].isalnum():
                yield (found.start(), end, "iban")
    numbers = list(_find_numbers(text))
    # The attributes of HTML and SVG are full of numbers, but tel: is a telephone.
    tags = [found.span() for found in _TAG.finditer(text)] if numbers else []
    starts = [start for start, _ in tags]
    for start, end, name in numbers:
        at = bisect_right(starts, start) - 1
        if at < 0 or start >= tags[at][1] or text.endswith("tel:", tags[at][0], start):
            yield (start, end, name)


def _find_numbers(text: str) -> Iterator[Hit]:
    for found in _CARD.finditer(text):
        if _NUMBER_LABEL.search(text[max(0, found.start() - _NUMBER_LABEL_MAX_LENGTH) : found.start()]):
            continue
        # A date of expiry, a check number or just another number may follow.
        for group in reversed(list(re.finditer(r"\d+", found[1]))):
            if _is_card(re.sub(r"\D", "", found[1][: group.end()])):
                yield (found.start(), found.start() + group.end(), "card")
                break
    for pattern in (_INTERNATIONAL, _NATIONAL):
        for found in pattern.finditer(text):
            end = _find_phone_end(text, found)
            if end:
                yield (found.start(), end, "phone")


def _end_position(found: re.Match[str], characters: int) -> int:
    """Where the first so many characters of a match end, not counting spaces."""
    counted = 0
    for position, character in enumerate(found[0], start=found.start()):
        counted += character != " "
        if counted == characters:
            return position + 1
    return found.end()


def _find_phone_end(text: str, found: re.Match[str]) -> int:
    """Where a telephone number that begins here ends; 0 where there is none. What follows it may be digits too: a date, say."""
    for group in reversed(list(re.finditer(r"\d+", found[0]))):
        end = found.start() + group.end()
        begins_date = _DATE.match(text, found.start() + group.start())
        if begins_date and begins_date.end() > end:
            continue
        if not _CONTINUATION.match(text, end) and _is_phone(text[found.start() : end]):
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
    if not (9 <= digits <= 14 and len(groups) > 1 and len(groups[0]) >= 3):
        return False
    # A code that is not set apart by a bracket or a slash is followed by few groups: an id has shorter ones, or a year.
    return bool(_AREA_CODE.match(text)) or all(len(group) >= 3 and not _YEAR.fullmatch(group) for group in groups[1:])


def _is_card(digits: str) -> bool:
    if not any(scheme.match(digits) and len(digits) in lengths for scheme, lengths in _CARD_LENGTHS):
        return False
    return len(set(digits)) > 1 and bool(_import_stdnum().luhn.is_valid(digits))


def _is_iban(compact: str) -> bool:
    return bool(_import_stdnum().iban.is_valid(compact))


def _import_stdnum() -> ModuleType:
    """Return stdnum, which few texts need and which takes 60 ms to import."""
    import stdnum
    import stdnum.iban
    import stdnum.luhn

    return stdnum
