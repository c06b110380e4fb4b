"""Draw the reviews of orders: score, title and comment.

Comments contain commas, quotation marks and line breaks, and sometimes personal data: a name, an e-mail address or a
telephone number.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Optional

from demo_shop.people import Customer

_TITLES = {
    5: ("Super!", "Bin begeistert", "Gerne wieder", "Aanrader!", "Top Qualität"),
    4: ("Gut", "Fast perfekt", "Prima", "Goed product"),
    3: ("Geht so", "Mittelmäßig", "Niet slecht"),
    2: ("Enttäuscht", "Eher nicht", "Leider schwach"),
    1: ("Nie wieder", "Ärgerlich", "Unmöglich", "Slechte service"),
}
_COMMENTS = {
    5: (
        "Schön verarbeitet, genau wie beschrieben.",
        "Mijn favoriet, heel blij mee!",
        "Würde ich sofort wieder kaufen.",
    ),
    4: ("Gute Ware, nur die Verpackung war etwas groß.", "Gefällt mir, die Farbe ist aber dunkler als im Bild."),
    3: ("Für den Preis in Ordnung, mehr nicht.", "Erfüllt den Zweck, wirkt aber „billig“."),
    2: ("Schon nach zwei Tagen ein Kratzer, schade.", 'Die Größe "M" fällt viel zu klein aus.'),
    1: ("Kaputt angekommen, niemand antwortet.", "Falscher Artikel, und das zum zweiten Mal!"),
}
_ON_TIME_COMMENTS = ("Lieferung schnell.", "Pünktlich geliefert, danke!", "Kam am nächsten Tag, toll.", "")
_LATE_COMMENTS = ("Leider zu spät geliefert.", "Eine Woche gewartet, ohne Nachricht.", "Die Lieferung dauerte ewig.")
_SCORES = (5, 4, 3, 2, 1)
_WEIGHTS_ON_TIME = (58, 22, 9, 4, 7)
_WEIGHTS_LATE = (14, 17, 22, 20, 27)


@dataclass(frozen=True)
class ReviewContent:
    """The content of a review: ``score`` is 1 to 5; empty fields are ``None``."""

    score: int
    title: Optional[str]
    comment: Optional[str]


def draw_review(rng: Random, customer: Customer, late: bool) -> ReviewContent:
    """Draw the review of an order by ``customer``; reviews of late orders have lower scores."""
    score = rng.choices(_SCORES, _WEIGHTS_LATE if late else _WEIGHTS_ON_TIME)[0]
    title = rng.choice(_TITLES[score]) if rng.random() < 0.6 else None
    if rng.random() < 0.35:
        return ReviewContent(score, title, None)
    sentences = [
        rng.choice(_COMMENTS[score]),
        rng.choice(_LATE_COMMENTS if late else _ON_TIME_COMMENTS),
        _draw_signature(rng, customer),
    ]
    separator = "\n" if rng.random() < 0.25 else " "
    return ReviewContent(score, title, separator.join(sentence for sentence in sentences if sentence))


def _draw_signature(rng: Random, customer: Customer) -> str:
    draw = rng.random()
    if draw < 0.08:
        return f"Viele Grüße, {customer.first_name} {customer.last_name}"
    if draw < 0.12:
        return f"Bitte melden unter {customer.email}"
    if draw < 0.14 and customer.phone:
        return f"Rückruf bitte unter {customer.phone}, danke"
    return ""
