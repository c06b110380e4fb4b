"""Find e-mail addresses and telephone, card and account numbers by their form.

Records are full of other digits (dates, money, versions, digests, ids). So a number also needs a valid check digit or prefix.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from types import ModuleType

from daybook.privacy.normalize import fold_with_positions

Hit = tuple[int, int, str]
"""Start, end (exclusive) and column or kind of a found value."""

_EMAIL = re.compile(r"(?<![\w+])[\w+][\w.+%'-]{0,63}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![^\W\d_])")
_SEPARATOR = r"(?:[ \u00a0\u202f./\u2010-\u2013-]| ?\(|\) ?|\)/| [/-] )?"
# The patterns below begin with a look-ahead at the first character, which is fast at most positions.
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
"""Length of the shortest IBANs, those of Norway."""

_NUMBER_LABEL = re.compile(
    r"(?:\b|_)(?:orders?|invoices?|items?|articles?|skus?|products?|parcels?|shipments?|tracking|tickets?|receipts?|references?|ref|"
    r"bestellungen|bestellung|rechnung|artikel|sendung)(?:[ _-]?(?:id|no|nr|number|nummer|key))?['\"]?[ .:=#(\[]{0,3}['\"]?$"
)
_NUMBER_LABEL_MAX_LENGTH = 40
"""Maximum length of the label of another number. One order number in ten has a valid check digit of a card."""

_CARD_LENGTHS = (
    (re.compile(r"4"), {16, 19}),  # Cards with 13 digits are no longer issued.
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), {16}),
    (re.compile(r"3[47]"), {15}),
    (re.compile(r"30[0-5]|3095|36|3[89]"), {14}),
    (re.compile(r"35(?:2[89]|[3-8])"), {16}),
    (re.compile(r"6011|62|64[4-9]|65"), {16, 17, 18, 19}),
    (re.compile(r"5018|5020|5038|5893|6304|6759|676[1-3]"), {16, 17, 18, 19}),
)
"""Numbers of digits of a card by its first digits (ISO/IEC 7812)."""


def find_patterns(text: str) -> Iterator[Hit]:
    """Yield every e-mail address and telephone, card and account number in a text, in no order."""
    plain = fold_with_positions(text)
    for start, end, name in _find_folded_patterns(plain.text):
        yield (*plain.original_span(start, end), name)


def _find_folded_patterns(text: str) -> Iterator[Hit]:
    if "@" in text:
        for found in _EMAIL.finditer(text):
            yield (*found.span(), "email")
    for found in _IBAN.finditer(text):
        compact = found[0].replace(" ", "").upper()
        # Another word may follow. Each country has only one valid length.
        length = next((length for length in range(len(compact), _IBAN_MIN_LENGTH - 1, -1) if _is_iban(compact[:length])), 0)
        if length:
            end = _end_position(found, length)
            # An id of letters and digits may begin like an IBAN.
            if not text[end : end + 1].isalnum():
                yield (found.start(), end, "iban")
    numbers = list(_find_numbers(text))
    # Numbers in HTML and SVG attributes are skipped, except after tel:.
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
        # An expiry date, a check number or another number may follow.
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
    """Return where the first ``characters`` characters of a match end, not counting spaces."""
    counted = 0
    for position, character in enumerate(found[0], start=found.start()):
        counted += character != " "
        if counted == characters:
            return position + 1
    return found.end()


def _find_phone_end(text: str, found: re.Match[str]) -> int:
    """Return where a telephone number at a match ends, since other digits such as a date may follow; 0 if there is none."""
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
    # A decimal number has one point and no other separator: +3.14159265.
    if _DATE.search(text) or (len(groups) == 2 and "." in text):
        return False
    if text.startswith("+"):
        # Digits without separators may be a signed difference.
        return (8 if len(groups) > 1 else 10) <= digits <= 16
    if text.startswith("00"):
        return 10 <= digits <= 17 and (len(groups) > 1 or digits >= 13)
    # Without a prefix a separate area code distinguishes it from an id with a leading zero.
    if not (9 <= digits <= 14 and len(groups) > 1 and len(groups[0]) >= 3):
        return False
    # After an area code without brackets or slash, short groups or a year indicate an id.
    return bool(_AREA_CODE.match(text)) or all(len(group) >= 3 and not _YEAR.fullmatch(group) for group in groups[1:])


def _is_card(digits: str) -> bool:
    if not any(scheme.match(digits) and len(digits) in lengths for scheme, lengths in _CARD_LENGTHS):
        return False
    return len(set(digits)) > 1 and bool(_import_stdnum().luhn.is_valid(digits))


def _is_iban(compact: str) -> bool:
    return bool(_import_stdnum().iban.is_valid(compact))


def _import_stdnum() -> ModuleType:
    """Return stdnum, imported on first use: few texts need it, and it takes 60 ms."""
    import stdnum
    import stdnum.iban
    import stdnum.luhn

    return stdnum
