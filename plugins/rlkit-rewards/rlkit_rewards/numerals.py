"""Numbers as people and models write them, read exactly.

Understood: thousands separators (1,000 and 1{,}000 and thin spaces), currency signs, percent signs (ignored: 50% is 50),
signs (also Unicode's), decimals with or without a leading digit, powers (1e3, 2.5 x 10^3, 2^10), fractions (3/4 and
Unicode's), mixed numbers (1 1/2), digits of other scripts. Not a number: digits inside a word (H2O, x2), exponents
(cm^2), ordinals (2nd), times and ratios (3:30), 18k.

A comma between digits separates thousands or the elements of a list, a full stop begins the decimals: 3,5 is two
numbers and 1.500 is one and a half. European spelling is read where it can mean nothing else: 1.234,5 and 1.234.567.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction

MAX_CHARACTERS = 60
"""Longer numerals are not read: no answer needs them, and exact arithmetic on them takes for ever."""
MAX_EXPONENT = 30
MAX_SENTENCE = 500
"""Characters of a statement that is read as words with a number among them."""

_DIGITS = r"(?>(?:[0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+(?![0-9A-Za-z]))?)"
_APART = r"(?<![^\W\u2e80-\u9fff\uac00-\ud7af])(?<![\^.])"
"""Not inside a word; scripts that write without spaces have none around numbers either."""
_CURRENCY = r"[$€£¥]"
NUMERAL = re.compile(
    rf"{_APART}(?<![0-9]:)(?P<sign>(?<![)\]}}%])[-+](?:{_CURRENCY}\s?)?|{_CURRENCY}\s?[-+]?)?"
    rf"(?P<first>{_DIGITS})"
    rf"(?:(?P<mixed>[ ]+[0-9]+/[0-9]+)|/(?P<bottom>{_DIGITS})"
    r"|\^(?:(?P<power>[-+]?[0-9]{1,2})|\{(?P<braced>[-+]?[0-9]{1,2})\})(?![0-9^])"
    r"|(?!(?:st|nd|rd|th|k|K)\b|\^\{?[-+0-9A-Za-z(]|:[0-9]))"
)
"""One numeral in text that `plain_text` has prepared."""

_EUROPEAN = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:(?:\.[0-9]{3})+,[0-9]{1,2}|(?:\.[0-9]{3}){2,})(?![0-9]|[.,][0-9])")
_TIMES_TEN = re.compile(
    r"(?<=[0-9])\s*(?:\\times|\\cdot|[\u00d7\u00b7*x])\s*10\s*\^\s*(?:([-+]?[0-9]{1,4})|\{\s*([-+]?[0-9]{1,4})\s*\})"
)
_UNFINISHED = re.compile(r"\s*(?:\\times|\\cdot|\\div|[-+*/\u00d7\u00f7\u00b7])\s*[$(]?\s*[0-9]")
_GROUPED = re.compile(r"[0-9]{1,3}(,[0-9]{3})+")
_PLAIN_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\uff0d\ufe63", "-"),  # minus, hyphens, figure and en dash, wide
        **dict.fromkeys("\u2009\u202f\u00a0\u2007", "\u2009"),  # the spaces that group digits
        "\u2026": " ",  # an ellipsis
        "\uff0b": "+",
        "\uff04": "$",
        "\uff05": "%",
        "\uff0c": ",",
        "\uff0e": ".",
        "\u2044": "/",
        "\u2215": "/",
    }
)
_FRACTIONS = {
    character: "".join("/" if part == "\u2044" else part for part in unicodedata.normalize("NFKC", character))
    for character in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒"
}
_FRACTION = re.compile(f"([0-9]?)\\s?([{''.join(_FRACTIONS)}])")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT = re.compile("(?<=[0-9])[⁻⁺]?[⁰¹²³⁴-⁹]+")
_LATEX_FRACTION = re.compile(
    r"([0-9]?)\s*\\[dtc]?frac\s*(?:\{\s*(-?[0-9.,]{1,60})\s*\}|([0-9]))\s*(?:\{\s*([0-9.,]{1,60})\s*\}|([0-9]))"
)
_WORDS = re.compile(r"(?:[^\W\d_]{2,}(?:\^\{?[23]\}?|[²³])?|[\s.,;:'\u2019€$£¥%()/!?`*-])*")
_LATEX_SPACES = re.compile(r"\\[,;!: ]|\{,\}(?=[0-9])")
_DOTS = re.compile(r"\.{2,}")
_SIGN_AFTER_EQUALS = re.compile(r"=\s*-\s+(?=[$.0-9])")


def plain_text(text: str) -> str:
    """`text` with ASCII digits, signs and separators, ready for `NUMERAL`."""
    text = text.translate(_PLAIN_CHARACTERS)
    if not text.isascii():
        text = "".join(str(int(character)) if character.isdecimal() else character for character in text)
        text = _FRACTION.sub(lambda match: f"{match[1]}{match[1] and ' '}{_FRACTIONS[match[2]]}", text)
        text = _SUPERSCRIPT.sub(lambda match: "^" + match[0].translate(_SUPERSCRIPTS), text)
        text = re.sub(r"(?<=[0-9])\u2009(?=[0-9]{3}(?![0-9]))", "", text).replace("\u2009", " ")
    if "\\" in text or "{,}" in text:
        text = _unlatexed(text)
    if "^" in text:
        text = _TIMES_TEN.sub(lambda match: f"e{match[1] or match[2]}", text)
    if "." in text:
        text = _EUROPEAN.sub(lambda match: match[0].replace(".", "").replace(",", "."), _DOTS.sub(" ", text))
    return _SIGN_AFTER_EQUALS.sub("= -", text)


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
    """The number that any text begins with, white space, `**`, `\\(` or `=` aside; a sign may stand apart from it.

    None also for an unfinished calculation, 3 + 15.
    """
    match = _leading_numeral(text)
    if match is None or _UNFINISHED.match(match.string, match.end()):
        return None
    return next(_numbers_of(match), None)


def stated_number(stated: str) -> Fraction | None:
    """Of "16 - 3 = 13 eggs" the result, of "13 eggs for 4 people" the first number, of "about 13" the last, of "13 - 3" none."""
    sentence = stated.split(". ", 1)[0].rpartition("=")[2]
    return leading_number(sentence) if begins_with_numeral(sentence) else last_number(sentence)


def stated_in_words(stated: str) -> Fraction | None:
    """As `stated_number`, where there is nothing but words around the numbers: no formula of which the number is a part."""
    sentence = stated.split(". ", 1)[0].rpartition("=")[2]
    if len(sentence) > MAX_SENTENCE or _WORDS.fullmatch(NUMERAL.sub(" ", plain_text(sentence))) is None:
        return None
    return stated_number(sentence)


def begins_with_numeral(text: str) -> bool:
    """Whether `text` begins with a numeral, readable or not, as `leading_number` looks for it."""
    return _leading_numeral(text) is not None


def _leading_numeral(text: str) -> re.Match[str] | None:
    prepared = re.sub(r"^[\s*_=:(\[{\\]*", "", plain_text(text))
    return NUMERAL.match(re.sub(r"^([-+])\s+", r"\1", prepared))


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
    if "frac" in text:
        text = _LATEX_FRACTION.sub(_slashed, text)
    text = _LATEX_SPACES.sub(lambda match: "," if match[0] == "{,}" else "", text)
    return text.replace("\\$", "$").replace("\\%", "%")


def _slashed(match: re.Match[str]) -> str:
    whole, top, short_top, bottom, short_bottom = match.groups()
    return f"{whole}{' ' if whole else ''}{top or short_top}/{bottom or short_bottom}"


def _numbers_of(match: re.Match[str]) -> Iterator[Fraction | None]:
    first = match["first"]
    sign = -1 if "-" in (match["sign"] or "") else 1
    power = match["power"] or match["braced"]
    if power is not None:
        yield _power(sign, first, int(power))
        return
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


def _power(sign: int, first: str, power: int) -> Fraction | None:
    base = _exact(first)
    if base is None or abs(power) > MAX_EXPONENT or (base == 0 and power < 0):
        return None
    return sign * base**power


def _exact(digits: str) -> Fraction | None:
    text = digits.replace(",", "")
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > MAX_CHARACTERS or len(exponent) > 4 or abs(int(exponent or 0)) > MAX_EXPONENT:
        return None
    return Fraction(text)
