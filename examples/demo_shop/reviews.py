"""What customers write about their orders: score, title and comment.

Comments are as careless as real ones: with commas, quotation marks, line breaks, and now and then a name, a mail address or a
telephone number: personal data in free text.
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
    """A review's content; ``score`` from 1 to 5, ``None`` where the customer left the field empty."""

    score: int
    title: Optional[str]
    comment: Optional[str]


def draw_review(chance: Random, customer: Customer, late: bool) -> ReviewContent:
    """Return what ``customer`` says about an order; those who waited too long are harsher."""
    score = chance.choices(_SCORES, _WEIGHTS_LATE if late else _WEIGHTS_ON_TIME)[0]
    title = chance.choice(_TITLES[score]) if chance.random() < 0.6 else None
    if chance.random() < 0.35:
        return ReviewContent(score, title, None)
    sentences = [
        chance.choice(_COMMENTS[score]),
        chance.choice(_LATE_COMMENTS if late else _ON_TIME_COMMENTS),
        _draw_signature(chance, customer),
    ]
    separator = "\n" if chance.random() < 0.25 else " "
    return ReviewContent(score, title, separator.join(sentence for sentence in sentences if sentence))


def _draw_signature(chance: Random, customer: Customer) -> str:
    draw = chance.random()
    if draw < 0.08:
        return f"Viele Grüße, {customer.first_name} {customer.last_name}"
    if draw < 0.12:
        return f"Bitte melden unter {customer.email}"
    if draw < 0.14 and customer.phone:
        return f"Rückruf bitte unter {customer.phone}, danke"
    return ""
