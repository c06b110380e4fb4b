"""Draw the shop's customers, their changes, and who orders.

Surnames are combined from syllables, e-mail addresses end in ``example.com``, and telephone numbers are from the ranges
that the German regulator reserves for fiction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from random import Random
from typing import Any, Dict, List, Optional, Tuple


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

RETURNING_SHARE = 0.37  # of a day's orders, after the first week
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
    """The newest version of each customer so far, and the choice of the customer of each order.

    An order is from a new customer, a registered one without orders, or a returning one.
    """

    def __init__(self, rng: Random, choice: Random) -> None:
        self._rng = rng
        self._choice = choice
        self.customers: List[Customer] = []
        self._idle: List[Customer] = []
        self._returning: List[Customer] = []
        self._regulars: List[Customer] = []
        self._new_today: List[Customer] = []
        self._seen_today: Dict[int, Customer] = {}
        self._days_closed = 0

    def next(self, at: datetime) -> Customer:
        """Return the customer of an order at ``at``, in the version of that time."""
        # Few customers can return on the first days: the share rises over a week.
        if self._returning and self._choice.random() < RETURNING_SHARE * min(1.0, self._days_closed / 7):
            pool = self._regulars if self._regulars and self._choice.random() < 0.35 else self._returning
            customer = self._newest(self._choice.choice(pool))
            if self._choice.random() < 0.03:
                customer = self._change(customer, updated_at=at, **_draw_address(self._rng, _draw_city(self._rng)))
        else:
            if self._idle and self._choice.random() < 0.04:
                customer = self._idle.pop(self._choice.randrange(len(self._idle)))
            else:
                customer = self._register(at)
            self._new_today.append(customer)
        self._seen_today[customer.number] = customer
        return customer

    def close(self, day: date) -> List[Customer]:
        """Add the registrations and changes without an order on ``day``; return the versions that the day's file contains."""
        evening = datetime.combine(day, time(hour=23))
        for _ in range(len(self._new_today) // 20):
            customer = self._register(evening + timedelta(seconds=self._choice.randrange(3600)))
            self._idle.append(customer)
            self._seen_today[customer.number] = customer
        for _ in range(len(self._returning) // 1000):
            changed = self._choice.choice(self._returning)
            # One change a day: two with one time stamp would make the newest version ambiguous.
            if changed.number not in self._seen_today:
                late = evening + timedelta(seconds=self._choice.randrange(3600))
                self._seen_today[changed.number] = self._change(changed, phone=_draw_phone(self._rng), updated_at=late)
        self._returning.extend(self._new_today)
        self._regulars.extend(customer for customer in self._new_today if customer.regular)
        self._new_today = []
        self._days_closed += 1
        seen = [self._newest(customer) for _, customer in sorted(self._seen_today.items())]
        self._seen_today = {}
        return seen

    def _register(self, at: datetime) -> Customer:
        """Add and return a new customer who registers at ``at``."""
        rng, number = self._rng, len(self.customers) + 1
        city = _draw_city(rng)
        first_name, last_name = _draw_name(rng, city)
        customer = Customer(
            number=number,
            first_name=first_name,
            last_name=last_name,
            email=f"{first_name}.{last_name}{number}@example.com".lower().translate(_ASCII),
            phone=None if rng.random() < _NO_PHONE_SHARE else _draw_phone(rng),
            **_draw_address(rng, city),
            regular=rng.random() < _REGULAR_SHARE,
            registered_at=at,
            updated_at=at,
        )
        self.customers.append(customer)
        return customer

    def _newest(self, customer: Customer) -> Customer:
        return self.customers[customer.number - 1]

    def _change(self, customer: Customer, **changes: Any) -> Customer:
        """Store and return a new version of ``customer``."""
        changed = self.customers[customer.number - 1] = replace(self._newest(customer), **changes)
        return changed


def _draw_city(rng: Random) -> City:
    return rng.choices(CITIES, [city.weight for city in CITIES])[0]


def _draw_name(rng: Random, city: City) -> Tuple[str, str]:
    if city.country == "NL":
        surname = f"van der {rng.choice(_DUTCH_SURNAME_STARTS)}{rng.choice(_DUTCH_SURNAME_ENDS)}"
        return rng.choice(_DUTCH_GIVEN_NAMES), surname
    return rng.choice(_GIVEN_NAMES), rng.choice(_SURNAME_STARTS) + rng.choice(_SURNAME_ENDS)


def _draw_phone(rng: Random) -> str:
    return f"{rng.choice(_FICTIONAL_RANGES)}{rng.randrange(1000):03d}"


def _draw_address(rng: Random, city: City) -> Dict[str, Any]:
    """Draw the fields of a customer's address in a city."""
    street = f"{rng.choice(_STREETS['NL' if city.country == 'NL' else 'DE'])} {rng.randint(1, 120)}"
    # Some addresses contain a comma, which the files must quote.
    street += ", Hinterhaus" if rng.random() < 0.04 else ""
    code = f"{rng.randint(city.first_code, city.last_code):0{5 if city.country == 'DE' else 4}d}"
    if city.country == "NL":
        code += f" {rng.choice('ABCDEGHJKLMNPRSTVWXZ')}{rng.choice('ABCDEGHJKLMNPRSTVWXZ')}"
    return {"city": city, "street": street, "postal_code": code}
