"""Numbers as people and models write them, read exactly.

Understood: thousands separators (1,000 and 1{,}000 and thin spaces), currency signs, percent signs (ignored: 50% is 50),
signs (also Unicode's), decimals with or without a leading digit, powers of ten (1e3), fractions (3/4), mixed numbers
(1 1/2), digits of other scripts. Not a number: digits inside a word (H2O, x2), exponents (cm^2), ordinals (2nd).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

MAX_CHARACTERS = 60
"""Longer numerals are not read: no answer needs them, and exact arithmetic on them takes for ever."""
MAX_EXPONENT = 30

_DIGITS = r"(?>(?:[0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+(?![0-9A-Za-z]))?)"
_CURRENCY = r"[$€£¥]"
NUMERAL = re.compile(
    rf"(?<![\w^.])(?P<sign>(?<![)\]}}%])[-+](?:{_CURRENCY}\s?)?|{_CURRENCY}\s?[-+]?)?"
    rf"(?P<first>{_DIGITS})"
    rf"(?:(?P<mixed>[ ]+[0-9]+/[0-9]+)|/(?P<bottom>{_DIGITS})|(?!(?:st|nd|rd|th)\b))"
)
"""One numeral in text that `plain_text` has prepared."""

_GROUPED = re.compile(r"[0-9]{1,3}(,[0-9]{3})+")
_PLAIN_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\uff0d\ufe63", "-"),  # minus, hyphens, figure and en dash, wide
        **dict.fromkeys("\u2009\u202f\u00a0\u2007", "\u2009"),  # the spaces that group digits
        "\uff0b": "+",
        "\uff04": "$",
        "\uff05": "%",
        "\uff0c": ",",
        "\uff0e": ".",
        "\u2044": "/",
        "\u2215": "/",
    }
)
_LATEX_SPACES = re.compile(r"\\[,;!: ]|\{,\}(?=[0-9])")
_DOTS = re.compile(r"\.{2,}|…")
_SIGN_AFTER_EQUALS = re.compile(r"=\s*-\s+(?=[$.0-9])")


def plain_text(text: str) -> str:
    """`text` with ASCII digits, signs and separators, ready for `NUMERAL`."""
    text = text.translate(_PLAIN_CHARACTERS)
    if not text.isascii():
        text = "".join(str(int(character)) if character.isdecimal() else character for character in text)
        text = re.sub(r"(?<=[0-9])\u2009(?=[0-9]{3}(?![0-9]))", "", text).replace("\u2009", " ")
    if "\\" in text or "{,}" in text:
        text = _unlatexed(text)
    return _SIGN_AFTER_EQUALS.sub("= -", _DOTS.sub(" ", text))


def find_numbers(text: str) -> Iterator[Fraction | None]:
    """Every number of `text` (prepared by `plain_text`), in order; None for a numeral that cannot be read."""
    for match in NUMERAL.finditer(text):
        yield from _numbers_of(match)


def last_number(text: str) -> Fraction | None:
    """The last number of any text."""
    found: Fraction | None = None
    for found in find_numbers(plain_text(text)):  # noqa: B007 - the last one is wanted
        pass
    return found


def leading_number(text: str) -> Fraction | None:
    """The number that any text begins with, white space, `**`, `\\(` or `=` aside; a sign may stand apart from it."""
    prepared = re.sub(r"^[\s*_=:(\[{\\]*", "", plain_text(text))
    prepared = re.sub(r"^([-+])\s+", r"\1", prepared)
    match = NUMERAL.match(prepared)
    return next(_numbers_of(match), None) if match else None


def parse_number(text: str) -> Fraction | None:
    """The number that the whole of `text` is (currency, percent and a final full stop aside), else None."""
    prepared = plain_text(text).strip().rstrip(".").removesuffix("%").rstrip()
    match = NUMERAL.fullmatch(prepared)
    numbers = list(_numbers_of(match)) if match else []
    return numbers[0] if len(numbers) == 1 else None


def canonical(number: Fraction) -> str:
    """One spelling for equal numbers: `18`, `-3/4`."""
    return str(number)


def _unlatexed(text: str) -> str:
    text = _LATEX_SPACES.sub(lambda match: "," if match[0] == "{,}" else "", text)
    return text.replace("\\$", "$").replace("\\%", "%")


def _numbers_of(match: re.Match[str]) -> Iterator[Fraction | None]:
    first = match["first"]
    sign = -1 if "-" in (match["sign"] or "") else 1
    if match["bottom"] is not None or match["mixed"] is not None:
        yield _fraction(sign, first, match["mixed"], match["bottom"])
        return
    digits = first.rstrip(",")
    whole = re.split(r"[.eE]", digits, maxsplit=1)[0]
    if "," not in digits or _GROUPED.fullmatch(whole):
        number = _exact(digits)
        yield None if number is None else sign * number
        return
    # Commas that do not group thousands: a list such as 3,4. An element such as 000 shows a malformed numeral.
    elements = [element for element in digits.split(",") if element]
    if any(len(element) > 1 and element[0] == "0" and not element.startswith("0.") for element in elements):
        yield None
        return
    for position, element in enumerate(elements):
        number = _exact(element)
        yield -number if number is not None and position == 0 and sign < 0 else number


def _fraction(sign: int, first: str, mixed: str | None, bottom: str | None) -> Fraction | None:
    if mixed is not None:
        top_text, bottom_text = mixed.strip().split("/")
        whole = _exact(first)
    else:
        top_text, bottom_text, whole = first, bottom or "", Fraction(0)
    top, below = _exact(top_text), _exact(bottom_text)
    if top is None or below is None or whole is None or below == 0:
        return None
    return sign * (whole + top / below)


def _exact(digits: str) -> Fraction | None:
    text = digits.replace(",", "")
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > MAX_CHARACTERS or len(exponent) > 4 or abs(int(exponent or 0)) > MAX_EXPONENT:
        return None
    return Fraction(text)
