"""The shop's customers: where they live, what they are called, how they register and what they change.

Surnames are put together from syllables, every mail address ends in ``example.com``, and every telephone number is one the
German regulator keeps free for fiction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import List, Optional, Tuple


@dataclass(frozen=True)
class City:
    """A place customers live in; postal codes are drawn from ``first_code`` to ``last_code``, both included."""

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
# "Drama numbers" of the Bundesnetzagentur (notice 148/2021): never given to a subscriber. The last three digits vary.
_FICTIONAL_RANGES = ("+49 30 23125", "+49 69 90009", "+49 40 66969", "+49 221 4710", "+49 89 99998")
_ASCII = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ë": "e", "é": "e", "ï": "i", "ş": "s", " ": ""})

_REGULAR_SHARE = 0.12
_NO_PHONE_SHARE = 0.3


@dataclass(frozen=True)
class Customer:
    """One version of a customer; a change makes a new version with a later ``updated_at``."""

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
        """The id as the landing files show it, like ``C-00042``."""
        return f"C-{self.number:05d}"


class CustomerBase:
    """All customers so far, each in the newest version, with the registrations and changes that happen to them."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._weights = [city.weight for city in CITIES]
        self.customers: List[Customer] = []

    def register(self, at: datetime) -> Customer:
        """Add and return a new customer who registers at ``at``."""
        chance = self._chance
        number = len(self.customers) + 1
        city = chance.choices(CITIES, self._weights)[0]
        first_name, last_name = _draw_name(chance, city)
        customer = Customer(
            number=number,
            first_name=first_name,
            last_name=last_name,
            email=_email_address(first_name, last_name, number),
            phone=None if chance.random() < _NO_PHONE_SHARE else _draw_phone(chance),
            street=_draw_street(chance, city),
            postal_code=_draw_postal_code(chance, city),
            city=city,
            regular=chance.random() < _REGULAR_SHARE,
            registered_at=at,
            updated_at=at,
        )
        self.customers.append(customer)
        return customer

    def newest(self, customer: Customer) -> Customer:
        """Return the newest version of ``customer``."""
        return self.customers[customer.number - 1]

    def move(self, customer: Customer, at: datetime) -> Customer:
        """Give ``customer`` a new address at ``at`` and return the new version."""
        city = self._chance.choices(CITIES, self._weights)[0]
        return self._store(
            replace(
                self.newest(customer),
                city=city,
                street=_draw_street(self._chance, city),
                postal_code=_draw_postal_code(self._chance, city),
                updated_at=at,
            )
        )

    def change_phone(self, customer: Customer, at: datetime) -> Customer:
        """Give ``customer`` a new telephone number at ``at`` and return the new version."""
        return self._store(replace(self.newest(customer), phone=_draw_phone(self._chance), updated_at=at))

    def _store(self, customer: Customer) -> Customer:
        self.customers[customer.number - 1] = customer
        return customer


def _draw_name(chance: Random, city: City) -> Tuple[str, str]:
    if city.country == "NL":
        surname = f"van der {chance.choice(_DUTCH_SURNAME_STARTS)}{chance.choice(_DUTCH_SURNAME_ENDS)}"
        return chance.choice(_DUTCH_GIVEN_NAMES), surname
    return chance.choice(_GIVEN_NAMES), chance.choice(_SURNAME_STARTS) + chance.choice(_SURNAME_ENDS)


def _email_address(first_name: str, last_name: str, number: int) -> str:
    return f"{first_name}.{last_name}{number}@example.com".lower().translate(_ASCII)


def _draw_phone(chance: Random) -> str:
    return f"{chance.choice(_FICTIONAL_RANGES)}{chance.randrange(1000):03d}"


def _draw_street(chance: Random, city: City) -> str:
    street = chance.choice(_STREETS["NL" if city.country == "NL" else "DE"])
    # Commas inside an address are ordinary: the files must quote them.
    return f"{street} {chance.randint(1, 120)}{', Hinterhaus' if chance.random() < 0.04 else ''}"


def _draw_postal_code(chance: Random, city: City) -> str:
    code = chance.randint(city.first_code, city.last_code)
    if city.country == "DE":
        return f"{code:05d}"
    if city.country == "NL":
        return f"{code} {chance.choice('ABCDEGHJKLMNPRSTVWXZ')}{chance.choice('ABCDEGHJKLMNPRSTVWXZ')}"
    return str(code)
