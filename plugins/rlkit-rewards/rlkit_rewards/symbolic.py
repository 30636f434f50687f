"""Symbolic equality of short answers, by the package math-verify (on SymPy) where it is installed."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import math
import re
import threading
from collections.abc import Callable
from typing import Literal

from rlkit.errors import MissingRequirementError

Verifier = Callable[[str, str], bool]

MAX_CHARACTERS = 300
"""Longer answers are not handed over: no short answer needs them, and simplifying them may take for ever."""
MAX_DIGITS = 40
"""Longest numeral that is handed over."""
MAX_POWER = 10_000
"""Largest product of all whole numbers in exponents that is handed over: SymPy computes powers of whole numbers exactly."""
LIMIT_S = 5
"""Seconds for reading or comparing; what takes longer is wrong."""

_DIGITS = re.compile(r"[0-9]+")
_POWER = re.compile(r"\^|\*\*")
_OPENING = re.compile(r"\s*[-+]?\s*(?:[{(]|\\left\s*\()")
_SIMPLE_EXPONENT = re.compile(r"\s*[-+]?\s*(?:[0-9]+|\\?[a-zA-Z]+)?\s*")
_EXPENSIVE = re.compile(r"!|\\(?:sum|prod|int|iint|oint|lim|binom|dbinom|tbinom|Gamma|zeta)(?![a-zA-Z])")
_PERCENT = re.compile(r"\\?%")


def build_verifier(choice: Literal["auto", "builtin", "math_verify"]) -> Verifier | None:
    """The symbolic comparison of `choice`, None for none. Raises `MissingRequirementError` for math_verify without the package."""
    if choice == "builtin":
        return None
    if _is_installed():
        return is_equal_symbolically
    if choice == "math_verify":
        raise MissingRequirementError(
            "reward.options.math.verifier = math_verify needs the package of that name: pip install math-verify"
        )
    return None


def is_equal_symbolically(given: str, expected: str) -> bool:
    """Whether two LaTeX expressions are equal for math-verify; False for any that might take for ever to compare."""
    if not (_is_modest(given) and _is_modest(expected)):
        return False
    parse, verify = _functions()
    # It would take 50 % for 0.5 and for 50 at once; the built-in comparison has settled percentages before.
    given, expected = _PERCENT.sub("", given), _PERCENT.sub("", expected)
    return verify(parse(expected), parse(given))


def _is_modest(text: str) -> bool:
    return (
        len(text) <= MAX_CHARACTERS
        and all(len(digits) <= MAX_DIGITS for digits in _DIGITS.findall(text))
        and _EXPENSIVE.search(text) is None
        and _has_modest_powers(text)
    )


def _has_modest_powers(text: str) -> bool:
    """No power of a power in an exponent, and the exponents together are small."""
    product = 1
    for sign in _POWER.finditer(text):
        exponent, end = _exponent(text, sign.end())
        if _POWER.search(exponent) or _POWER.match(text, end):
            return False
        product *= math.prod(int(digits) or 1 for digits in _DIGITS.findall(exponent))
    return product <= MAX_POWER


def _exponent(text: str, start: int) -> tuple[str, int]:
    """What stands behind a power sign, and where it ends."""
    opening = _OPENING.match(text, start)
    if opening is None:
        simple = _SIMPLE_EXPONENT.match(text, start)
        return (simple[0], simple.end()) if simple else ("", start)
    depth = 1
    for position in range(opening.end(), len(text)):
        depth += {"{": 1, "(": 1, "}": -1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return text[opening.end() : position], position + 1
    return text[opening.end() :], len(text)


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("math_verify") is not None
    except (ImportError, ValueError):
        return False


@functools.cache
def _functions() -> tuple[Callable[[str], object], Callable[[object, object], bool]]:
    """Its parse and verify, imported when the first answer needs them (SymPy takes a second)."""
    module = importlib.import_module("math_verify")
    for name in ("math_verify", "latex2sympy2_extended"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    def parse(text: str) -> object:
        return module.parse(f"${text}$", parsing_timeout=_limit_s())

    def verify(expected: object, given: object) -> bool:
        return bool(module.verify(expected, given, timeout_seconds=_limit_s()))

    return parse, verify


def _limit_s() -> int | None:
    """Its own time limits use signals, which only the main thread has."""
    return LIMIT_S if threading.current_thread() is threading.main_thread() else None
