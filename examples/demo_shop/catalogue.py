"""Draw the shop's products and sellers, and the changes of prices and demand.

Amounts of money are in cents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from itertools import accumulate
from random import Random
from typing import Dict, List, Optional, Tuple

from demo_shop.demand import black_friday

PRODUCT_COUNT = 400


@dataclass(frozen=True)
class Category:
    """One category: its product names and its prices, from ``low`` to ``high`` in EUR.

    ``gift`` is the growth of demand towards Christmas (0 = none, 1 = doubled); ``return_rate`` is the share of delivered
    lines that are returned.
    """

    number: int
    name: str
    department: str
    nouns: Tuple[str, ...]
    low: float
    high: float
    gift: float
    return_rate: float

    @property
    def category_id(self) -> str:
        """The id in the landing files, like ``K-03``."""
        return f"K-{self.number:02d}"


CATEGORIES: Tuple[Category, ...] = (
    Category(1, "Kitchenware", "Home", ("Bräter", "Pfanne", "Reibe", "Schüssel", "Messerblock"), 9, 90, 0.3, 0.05),
    Category(2, "Coffee & Tea", "Home", ("Kaffeemühle", "Teekanne", "Milchschäumer", "Filter"), 5, 120, 0.6, 0.04),
    Category(3, "Lighting", "Home", ("Stehlampe", "Lichterkette", "Tischleuchte", "Pendel"), 12, 150, 0.8, 0.06),
    Category(4, "Bedding", "Home", ("Bettwäsche", "Kissen", "Wolldecke", "Spannbetttuch"), 10, 110, 0.2, 0.07),
    Category(5, "Furniture", "Home", ("Regal", "Hocker", "Beistelltisch", "Garderobe", "Stühle"), 30, 320, 0.0, 0.07),
    Category(6, "Garden", "Outdoor", ("Gießkanne", "Hochbeet", "Vogelhäuschen", "Rechen"), 7, 130, -0.3, 0.04),
    Category(7, "Camping", "Outdoor", ("Zelt", "Schlafsack", "Kocher", "Hängematte"), 14, 220, -0.1, 0.07),
    Category(8, "Cycling", "Outdoor", ("Fahrradkorb", "Satteltasche", "Helm", "Klingel"), 6, 110, 0.0, 0.07),
    Category(9, "Women’s Clothing", "Fashion", ("Strickjacke", "Bluse", "Mantel", "Mütze"), 15, 140, 0.2, 0.14),
    Category(10, "Men’s Clothing", "Fashion", ("Hemd", "Pullover", "Jacke", "Gürtel"), 15, 140, 0.2, 0.13),
    Category(11, "Shoes", "Fashion", ("Stiefel", "Hausschuhe", "Turnschuhe", "Sandalen"), 20, 150, 0.1, 0.16),
    Category(12, "Toys & Games", "Family", ("Holzzug", "Puzzle", "Würfelspiel", "Stofftier"), 5, 80, 1.4, 0.03),
    Category(13, "Books & Paper", "Family", ("Kochbuch", "Notizbuch", "Kalender", "Bilderbuch"), 4, 40, 0.9, 0.02),
    Category(14, "Audio", "Electronics", ("Kopfhörer", "Lautsprecher", "Radio", "Plattenspieler"), 15, 280, 0.7, 0.06),
)
_SERIES = (
    *("Nordlicht", "Alba", "Fjell", "Grünwald", "Säntis", "Amrum", "Birke", "Küste", "Polder", "Föhn", "Lys", "Öre"),
    *("Wöhrd", "Kolibri", "Mirø", "Tarn"),
)
# The names of sellers and their cities must be encodable in Windows-1252, the encoding of their file.
_SELLER_STARTS = ("Möbelhof", "Kontor", "Manufaktur", "Werkstatt", "Lager", "Atelier", "Handelshaus")
_SELLER_ENDS = ("Süderquell", "Grünthal", "Fährmann", "Krähenloh", "Birkenstätt", "Van Duindijk", "Löwenkamp & Söhne")
_SELLER_CITIES = (
    *(("Köln", "DE"), ("München", "DE"), ("Lübeck", "DE"), ("Düsseldorf", "DE"), ("Görlitz", "DE"), ("Zürich", "CH")),
    *(("Wien", "AT"), ("St. Pölten", "AT"), ("Amsterdam", "NL"), ("Neuchâtel", "CH")),
)
_SELLER_COUNT = 25


@dataclass(frozen=True)
class Seller:
    """One version of a merchant who sells through the shop."""

    number: int
    name: str
    city: str
    country: str

    @property
    def seller_id(self) -> str:
        """The id in the landing files, like ``S-07``."""
        return f"S-{self.number:02d}"


@dataclass(frozen=True)
class Product:
    """One version of a product: ``list_price`` in cents, ``deal`` the discount in Black Week (0.2 = 20 %)."""

    number: int
    name: str
    category: Category
    seller: Seller
    list_price: int
    popularity: float
    deal: float
    updated_at: datetime

    @property
    def product_id(self) -> str:
        """The id in the landing files, like ``P-0042``."""
        return f"P-{self.number:04d}"


class Catalogue:
    """The newest version of each product and seller."""

    def __init__(self, rng: Random, opening: date) -> None:
        self._rng = rng
        self.sellers = _draw_sellers(rng)
        self.products = _draw_products(rng, self.sellers, opening)

    def reprice(self, day: date) -> List[Product]:
        """Change the list price of about one product in a hundred from midnight on; return the new versions."""
        changed = []
        for index, product in enumerate(self.products):
            if self._rng.random() < 0.01:
                price = round_to_shop_price(product.list_price * self._rng.uniform(0.85, 1.2))
                if price != product.list_price:
                    self.products[index] = replace(product, list_price=price, updated_at=_midnight(day))
                    changed.append(self.products[index])
        return changed

    def relocate_seller(self) -> Optional[Seller]:
        """Move a seller to another city on about one day in twenty; return the new version, if any."""
        if self._rng.random() >= 0.05:
            return None
        index = self._rng.randrange(len(self.sellers))
        city, country = self._rng.choice(_SELLER_CITIES)
        moved = replace(self.sellers[index], city=city, country=country)
        if moved == self.sellers[index]:
            return None
        self.sellers[index] = moved
        return moved

    def cumulative_demand(self, day: date) -> List[float]:
        """Return the cumulative demand weights of ``products`` on ``day``, in their order."""
        christmas = _christmas_factor(day)
        black_week = is_black_week(day)
        weights = []
        for product in self.products:
            weight = product.popularity * (1 + product.category.gift * christmas)
            weights.append(weight * 2 if black_week and product.deal else weight)
        return list(accumulate(weights))


def unit_price(product: Product, day: date) -> int:
    """Return the price of ``product`` on ``day`` in cents, with the discount of Black Week."""
    if product.deal and is_black_week(day):
        return round_to_shop_price(product.list_price * (1 - product.deal))
    return product.list_price


def round_to_shop_price(cents: float) -> int:
    """Return the nearest price in cents that ends in .49 or .99, at least 1.49."""
    return max(149, round((cents - 49) / 50) * 50 + 49)


def is_black_week(day: date) -> bool:
    """Return whether ``day`` is in the week of Black Friday: Monday to Cyber Monday, 8 days."""
    friday = black_friday(day.year)
    return friday - timedelta(days=4) <= day <= friday + timedelta(days=3)


def _christmas_factor(day: date) -> float:
    """Return 0 until November, a linear rise to 1 on 10 December, and 0 from Christmas Eve."""
    if day.month < 11 or day >= date(day.year, 12, 24):
        return 0.0
    return min(1.0, (day - date(day.year, 11, 1)).days / 39)


def _draw_sellers(rng: Random) -> List[Seller]:
    names = [f"{start} {end}" for start in _SELLER_STARTS for end in _SELLER_ENDS]
    # One name contains a comma, which the files must quote.
    chosen = [*rng.sample(names, _SELLER_COUNT - 1), "Möbel, Licht & Mehr"]
    return [Seller(number, name, *rng.choice(_SELLER_CITIES)) for number, name in enumerate(chosen, start=1)]


def _draw_products(rng: Random, sellers: List[Seller], opening: date) -> List[Product]:
    ranks = list(range(PRODUCT_COUNT))
    rng.shuffle(ranks)
    names: Dict[int, List[str]] = {}
    for category in CATEGORIES:
        names[category.number] = [f"{noun} {series}" for noun in category.nouns for series in _SERIES]
        rng.shuffle(names[category.number])
    products = []
    for index, rank in enumerate(ranks):
        category = CATEGORIES[index % len(CATEGORIES)]
        # The square makes low prices more frequent than high ones.
        price = category.low + (category.high - category.low) * rng.random() ** 2
        products.append(
            Product(
                number=index + 1,
                name=names[category.number].pop(),
                category=category,
                seller=rng.choice(sellers),
                list_price=round_to_shop_price(price * 100),
                popularity=1 / (rank + 8),  # Zipf's law with an offset: the best seller has about 3 %
                deal=rng.choice((0.15, 0.2, 0.3)) if rng.random() < 0.35 else 0.0,
                updated_at=_midnight(opening - timedelta(days=rng.randint(1, 400))),
            )
        )
    return products


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time())
