"""Random values that a translation must carry over: numbers, prices, dates, times, addresses, names and codes.

Each is drawn with its writing in English, French and German. Everything here is invented.
"""

import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from random import Random
from string import ascii_lowercase, ascii_uppercase
from typing import Any, Final, NamedTuple


class Value(NamedTuple):
    """One value as each language writes it."""

    en: str
    fr: str
    de: str


_LISTS: Final[Mapping[str, Any]] = json.loads(
    files("worker.training").joinpath("values.json").read_text(encoding="utf-8")
)


def _same(text: str) -> Value:
    return Value(text, text, text)


def _grouped(number: int) -> Value:
    text = f"{number:,}"
    return Value(text, text.replace(",", " "), text.replace(",", "."))


def _decimals(number: float, digits: int) -> Value:
    text = f"{number:,.{digits}f}"
    whole, _, part = text.partition(".")
    return Value(text, f"{whole.replace(',', ' ')},{part}", f"{whole.replace(',', '.')},{part}")


def whole(random: Random) -> Value:
    """A whole number, of any size up to tens of millions."""
    number = random.randint(2, 10 ** random.choice((1, 2, 2, 3, 3, 4, 5, 6, 7)) + 1)
    return _same(str(number)) if number < 1000 or random.random() < 0.3 else _grouped(number)


def decimal(random: Random) -> Value:
    """A number with one or two decimals, "1,234.5" or "0.75"."""
    return _decimals(random.random() * 10 ** random.choice((1, 1, 2, 4)), random.choice((1, 1, 2)))


def percent(random: Random) -> Value:
    """A percentage."""
    n = decimal(random) if random.random() < 0.5 else _same(str(random.randint(1, 100)))
    english = random.choice(("{}%", "{}%", "{} %", "{} percent")).format(n.en)
    return Value(english, f"{n.fr} %", f"{n.de} %" if "percent" not in english else f"{n.de} Prozent")


def price(random: Random) -> Value:
    """An amount of money, by sign or in words."""
    kind = random.random()
    if kind < 0.3:
        n = _decimals(random.uniform(1.1, 90), 1) if random.random() < 0.6 else _same(str(random.randint(2, 90)))
        scale = random.choice((("million", "millions", "Millionen"), ("billion", "milliards", "Milliarden")))
        coin = random.choice((("euros", "d'euros", "Euro"), ("dollars", "de dollars", "Dollar")))
        return Value(*(f"{n[i]} {scale[i]} {coin[i]}" for i in range(3)))
    cents = _decimals(random.uniform(1, 10 ** random.choice((1, 2, 3))), 2)
    n = cents if kind < 0.65 else whole(random)
    if kind > 0.85:
        coin = random.choice(
            (("euros", "euros", "Euro"), ("dollars", "dollars", "Dollar"), ("pounds", "livres", "Pfund"))
        )
        return Value(*(f"{n[i]} {coin[i]}" for i in range(3)))
    sign = random.choice("€$£")
    return Value(f"{sign}{n.en}", f"{n.fr} {sign}", f"{n.de} {sign}")


def date(random: Random) -> Value:
    """A day, with or without its year, or an ISO date."""
    day, month, year = random.randint(1, 28), random.choice(_LISTS["months"]), random.randint(1900, 2040)
    if random.random() < 0.15:
        return _same(f"{year}-{random.randint(1, 12):02}-{day:02}")
    en = random.choice((f"{month[0]} {day}", f"{day} {month[0]}"))
    fr, de = f"{'1er' if day == 1 else day} {month[1]}", f"{day}. {month[2]}"
    if random.random() < 0.4:
        return Value(en, fr, de)
    comma = "," if en.startswith(month[0]) and random.random() < 0.8 else ""
    return Value(f"{en}{comma} {year}", f"{fr} {year}", f"{de} {year}")


def year(random: Random) -> Value:
    """A year."""
    return _same(str(random.randint(1780, 2060)))


def time(random: Random) -> Value:
    """A time of day; hours of the afternoon are counted on in the translations."""
    hour, minute = random.randint(0, 23), random.choice((0, 5, 10, 15, 20, 30, 40, 45, 50, random.randint(0, 59)))
    text = f"{hour}:{minute:02}"
    if random.random() < 0.75 or hour in (0, 12):
        return Value(text, text, f"{text} Uhr")
    english = f"{hour % 12}:{minute:02} {random.choice(('pm', 'p.m.') if hour > 12 else ('am', 'a.m.'))}"
    return Value(english, text, f"{text} Uhr")


def _invented(random: Random, least: int = 2, most: int = 3) -> str:
    return "".join(random.choice(_LISTS["syllables"]) for _ in range(random.randint(least, most)))


def name(random: Random) -> Value:
    """A person, known or never heard of."""
    first = random.choice(_LISTS["first_names"]) if random.random() < 0.6 else _invented(random).title()
    last = random.choice(_LISTS["last_names"]) if random.random() < 0.5 else _invented(random).title()
    return _same(random.choice((first, f"{first} {last}", f"{first} {last}")))


def company(random: Random) -> Value:
    """A firm or a product of an invented name."""
    bare = _invented(random).title()
    return _same(random.choice((bare, f"{bare} {random.choice(('Labs', 'Systems', 'Group', 'One'))}", bare.upper())))


def place(random: Random) -> Value:
    """A city, under its name in each language."""
    return Value(*random.choice(_LISTS["places"])) if random.random() < 0.75 else _same(_invented(random).title())


def _host(random: Random) -> str:
    second = random.choice(("", "", f"-{_invented(random, 1, 2)}"))
    return f"{_invented(random)}{second}.{random.choice(_LISTS['domains'])}"


def url(random: Random) -> Value:
    """A web address with or without scheme and path."""
    path = random.choice(
        ("", "/" + random.choice(_LISTS["paths"]), f"/{random.choice(_LISTS['paths'])}/{random.randint(1, 2030)}")
    )
    return _same(random.choice(("https://", "https://", "http://", "www.", "", "https://www.")) + _host(random) + path)


def email(random: Random) -> Value:
    """An e-mail address."""
    user = random.choice(
        (
            _invented(random),
            f"{random.choice(_LISTS['first_names'])}.{random.choice(_LISTS['last_names'])}".lower(),
            "info",
            "help",
        )
    )
    return _same(f"{user}@{_host(random)}")


def phone(random: Random) -> Value:
    """A telephone number."""
    groups = [str(random.randint(10, 9999)) for _ in range(random.randint(1, 3))]
    if random.random() < 0.5:
        return _same(" ".join((f"+{random.randint(1, 99)}", *groups)))
    return _same("-".join((str(random.randint(100, 999)), *groups)))


def address(random: Random) -> Value:
    """A street and its number, as English writes it in every language."""
    street = random.choice((random.choice(_LISTS["last_names"]), _invented(random).title()))
    return _same(f"{random.randint(1, 999)} {street} {random.choice(_LISTS['streets'])}")


def code(random: Random) -> Value:
    """An identifier: of a flight, an order, a room, a version, a file."""
    letters = "".join(random.choices(ascii_uppercase, k=random.randint(1, 3)))
    digits = "".join(random.choices("0123456789", k=random.randint(1, 5)))
    mixed = "".join(random.choices(ascii_uppercase + "0123456789", k=random.randint(4, 8)))
    version = ".".join(str(random.randint(0, 20)) for _ in range(random.choice((2, 3, 3, 4))))
    file = f"{_invented(random)}_{digits}.{random.choice(_LISTS['extensions'])}"
    lower = "".join(random.choices(ascii_lowercase, k=3))
    forms = (f"{letters}-{digits}", letters + digits, f"{letters} {digits}", mixed, version, file, f"#{digits}")
    return _same(random.choice((*forms, f"{letters}-{digits}-{lower}", f"{digits}/{letters}", f"v{version}")))


def measure(random: Random) -> Value:
    """A number with a unit."""
    n, unit = random.choice((whole, decimal))(random), random.choice(("km", "kg", "m", "cm", "GB", "kWh", "km/h", "°C"))
    return Value(f"{n.en} {unit}", f"{n.fr} {unit}", f"{n.de} {unit}")


_MADE = (
    *(whole, decimal, percent, price, date, year, time),
    *(name, company, place, url, email, phone, address, code, measure),
)
KINDS: Final[Mapping[str, Callable[[Random], Value]]] = {made.__name__: made for made in _MADE}
