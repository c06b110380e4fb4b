"""Draw the shop's customers and their changes.

Surnames are combined from syllables, e-mail addresses end in ``example.com``, and telephone numbers are from the ranges
that the German regulator reserves for fiction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import List, Optional, Tuple


@dataclass(frozen=True)
class City:
    """A city of customers; postal codes are drawn from ``first_code`` to ``last_code``, both included."""

    name: str
    state: str
    country: str
    first_code: int
    last_code: int
    weight: float


CITIES: Tuple[City, ...] = (
    City("Berlin", "Berlin", "DE", 10115, 14199, 13),
    City("Hamburg", "Hamburg", "DE", 20095, 22769, 8),
    City("München", "Bayern", "DE", 80331, 81929, 8),
    City("Köln", "Nordrhein-Westfalen", "DE", 50667, 51149, 6),
    City("Frankfurt am Main", "Hessen", "DE", 60306, 60599, 4),
    City("Düsseldorf", "Nordrhein-Westfalen", "DE", 40210, 40629, 4),
    City("Leipzig", "Sachsen", "DE", 4103, 4357, 4),
    City("Dresden", "Sachsen", "DE", 1067, 1328, 4),
    City("Halle (Saale)", "Sachsen-Anhalt", "DE", 6108, 6132, 2),
    City("Nürnberg", "Bayern", "DE", 90402, 90491, 3),
    City("Würzburg", "Bayern", "DE", 97070, 97084, 2),
    City("Göttingen", "Niedersachsen", "DE", 37073, 37085, 2),
    City("Münster", "Nordrhein-Westfalen", "DE", 48143, 48167, 3),
    City("Lübeck", "Schleswig-Holstein", "DE", 23552, 23570, 2),
    City("Tübingen", "Baden-Württemberg", "DE", 72070, 72076, 2),
    City("Saarbrücken", "Saarland", "DE", 66111, 66133, 1),
    City("Görlitz", "Sachsen", "DE", 2826, 2828, 1),
    City("Wien", "Wien", "AT", 1010, 1230, 6),
    City("Graz", "Steiermark", "AT", 8010, 8055, 2),
    City("Linz", "Oberösterreich", "AT", 4020, 4040, 2),
    City("St. Pölten", "Niederösterreich", "AT", 3100, 3107, 1),
    City("Zürich", "Zürich", "CH", 8001, 8064, 3),
    City("Bern", "Bern", "CH", 3004, 3027, 1),
    City("Genève", "Genève", "CH", 1201, 1209, 1),
    City("Neuchâtel", "Neuchâtel", "CH", 2000, 2008, 0.5),
    City("Amsterdam", "Noord-Holland", "NL", 1011, 1109, 4),
    City("Utrecht", "Utrecht", "NL", 3511, 3585, 2),
    City("Groningen", "Groningen", "NL", 9711, 9747, 1),
    City("’s-Hertogenbosch", "Noord-Brabant", "NL", 5211, 5237, 1),
)

_GIVEN_NAMES = (
    *("Jürgen", "Käthe", "Björn", "Sören", "Anneliese", "Tilda", "Henrik", "Marlene", "Ayşe", "Lovis", "Jörn", "Mio"),
    *("Mathilda", "Zoë", "Florian", "Günther", "Fenja", "Emil", "Noëlle", "Ruben", "Traude", "Irmgard", "Elif", "Kaya"),
)
_DUTCH_GIVEN_NAMES = (
    *("Sanne", "Daan", "Femke", "Jeroen", "Anouk", "Bram", "Loïs", "Thijs", "Renée", "Joris", "Fenna", "Chloë"),
)
_SURNAME_STARTS = (
    *("Föhren", "Grün", "Birken", "Möhlen", "Quell", "Nebel", "Süd", "Ahorn", "Wölf", "Stern", "Krähen", "Löwen"),
    *("Hasel", "Schön", "Röhr", "Tannen", "Silber", "Mühl", "Ginster", "Fähr", "Übel", "Distel", "Kiesel", "Amsel"),
)
_SURNAME_ENDS = ("bach", "thaler", "hoff", "brück", "egger", "mann", "stätter", "rieder", "kamp", "loh", "büttel", "au")
_DUTCH_SURNAME_STARTS = ("Berken", "Linden", "Riet", "Duin", "Veen", "Molen", "Kraai", "Wilgen", "Zee", "Heide")
_DUTCH_SURNAME_ENDS = ("hof", "dijk", "veld", "horst", "stra", "laar", "meer", "donk")
_STREETS = {
    "DE": ("Lindenstraße", "Am Mühlbach", "Gänseweg", "Schloßallee", "Bahnhofstraße", "Zum Föhrenhain", "Gartenweg"),
    "NL": ("Tulpenlaan", "Oude Gracht", "Molenweg", "Koningsplein", "Zeedijk", "Ruïnestraat"),
}
# Numbers for fiction of the Bundesnetzagentur (notice 148/2021), never assigned. The last three digits vary.
_FICTIONAL_RANGES = ("+49 30 23125", "+49 69 90009", "+49 40 66969", "+49 221 4710", "+49 89 99998")
_ASCII = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ë": "e", "é": "e", "ï": "i", "ş": "s", " ": ""})

_REGULAR_SHARE = 0.12
_NO_PHONE_SHARE = 0.3


@dataclass(frozen=True)
class Customer:
    """One version of a customer; each change creates a version with a later ``updated_at``."""

    number: int
    first_name: str
    last_name: str
    email: str
    phone: Optional[str]
    street: str
    postal_code: str
    city: City
    regular: bool
    registered_at: datetime
    updated_at: datetime

    @property
    def customer_id(self) -> str:
        """The id in the landing files, like ``C-00042``."""
        return f"C-{self.number:05d}"


class CustomerBase:
    """The newest version of each customer so far."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._weights = [city.weight for city in CITIES]
        self.customers: List[Customer] = []

    def register(self, at: datetime) -> Customer:
        """Add and return a new customer who registers at ``at``."""
        rng = self._rng
        number = len(self.customers) + 1
        city = rng.choices(CITIES, self._weights)[0]
        first_name, last_name = _draw_name(rng, city)
        customer = Customer(
            number=number,
            first_name=first_name,
            last_name=last_name,
            email=_email_address(first_name, last_name, number),
            phone=None if rng.random() < _NO_PHONE_SHARE else _draw_phone(rng),
            street=_draw_street(rng, city),
            postal_code=_draw_postal_code(rng, city),
            city=city,
            regular=rng.random() < _REGULAR_SHARE,
            registered_at=at,
            updated_at=at,
        )
        self.customers.append(customer)
        return customer

    def newest(self, customer: Customer) -> Customer:
        """Return the newest version of ``customer``."""
        return self.customers[customer.number - 1]

    def move(self, customer: Customer, at: datetime) -> Customer:
        """Change the address of ``customer`` at ``at`` and return the new version."""
        city = self._rng.choices(CITIES, self._weights)[0]
        return self._store(
            replace(
                self.newest(customer),
                city=city,
                street=_draw_street(self._rng, city),
                postal_code=_draw_postal_code(self._rng, city),
                updated_at=at,
            )
        )

    def change_phone(self, customer: Customer, at: datetime) -> Customer:
        """Change the telephone number of ``customer`` at ``at`` and return the new version."""
        return self._store(replace(self.newest(customer), phone=_draw_phone(self._rng), updated_at=at))

    def _store(self, customer: Customer) -> Customer:
        self.customers[customer.number - 1] = customer
        return customer


def _draw_name(rng: Random, city: City) -> Tuple[str, str]:
    if city.country == "NL":
        surname = f"van der {rng.choice(_DUTCH_SURNAME_STARTS)}{rng.choice(_DUTCH_SURNAME_ENDS)}"
        return rng.choice(_DUTCH_GIVEN_NAMES), surname
    return rng.choice(_GIVEN_NAMES), rng.choice(_SURNAME_STARTS) + rng.choice(_SURNAME_ENDS)


def _email_address(first_name: str, last_name: str, number: int) -> str:
    return f"{first_name}.{last_name}{number}@example.com".lower().translate(_ASCII)


def _draw_phone(rng: Random) -> str:
    return f"{rng.choice(_FICTIONAL_RANGES)}{rng.randrange(1000):03d}"


def _draw_street(rng: Random, city: City) -> str:
    street = rng.choice(_STREETS["NL" if city.country == "NL" else "DE"])
    # Some addresses contain a comma, which the files must quote.
    return f"{street} {rng.randint(1, 120)}{', Hinterhaus' if rng.random() < 0.04 else ''}"


def _draw_postal_code(rng: Random, city: City) -> str:
    code = rng.randint(city.first_code, city.last_code)
    if city.country == "DE":
        return f"{code:05d}"
    if city.country == "NL":
        return f"{code} {rng.choice('ABCDEGHJKLMNPRSTVWXZ')}{rng.choice('ABCDEGHJKLMNPRSTVWXZ')}"
    return str(code)
