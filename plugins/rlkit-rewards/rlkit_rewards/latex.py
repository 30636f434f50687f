r"""Short LaTeX answers in one spelling, so that equal ones compare equal as text.

Follows the normalisation of the MATH data set (Hendrycks et al. 2021, arXiv:2103.03874, `is_equiv`), with exact
fractions instead of special cases.
"""

from __future__ import annotations

import re

MAX_CHARACTERS = 2_000
"""A longer text is no short answer; it is compared as it is."""

_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mbox|operatorname)\s*\{([^{}]*)\}")
_UNIT = re.compile(r"(?<=[0-9}\)])(?:\s|\\[,;:! ])*\\(?:text|mathrm|mbox)\s*\{[^{}]*\}(?:\^\{?-?\d\}?)?\s*$")
_FRACTION = re.compile(r"\\[dtc]?frac")
_BARE_FRACTION = re.compile(r"\\frac\s*(?:\{([^{}]*)\}|([0-9a-zA-Z]))\s*(?:\{([^{}]*)\}|([0-9a-zA-Z]))")
_BARE_ROOT = re.compile(r"\\sqrt\s*([0-9a-zA-Z])")
_ASSIGNMENT = re.compile(r"^\s*[a-zA-Z](?:\([a-zA-Z]\))?\s*(?:=|\\in\b)\s*")
_REMOVED = re.compile(
    r"\\(?:left|right|bigl?|bigr?|Bigl?|Bigr?|displaystyle|limits)(?![a-zA-Z])|(?<!\\)\\[,;:! ]|~|\\quad|\\qquad|"
    r"\^\{?\\circ\}?|\\degree|°|\\\$|[$€£¥]|\\%|%"
)
_SYNONYMS = (
    (re.compile(r"\\(?:leq|le)(?![a-zA-Z])"), r"\\le"),
    (re.compile(r"\\(?:geq|ge)(?![a-zA-Z])"), r"\\ge"),
    (re.compile(r"\\(?:neq|ne)(?![a-zA-Z])"), r"\\ne"),
    (re.compile(r"\\(?:cdot|times)(?![a-zA-Z])"), "*"),
    (re.compile(r"\\lbrace(?![a-zA-Z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![a-zA-Z])"), r"\\}"),
    (re.compile(r"\\infin(?:ity)?(?![a-zA-Z])|∞"), r"\\infty"),
    (re.compile("π"), r"\\pi"),
    (re.compile("[\u2212\u2013]"), "-"),
)


def normalise_latex(text: str) -> str:
    """`text` without spaces, sizes, units, currency, percent and degree signs, with one spelling of fractions and roots."""
    text = text.strip().strip("$").strip()
    if len(text) > MAX_CHARACTERS:
        return text
    text = text.removeprefix(r"\(").removesuffix(r"\)").removeprefix(r"\[").removesuffix(r"\]").strip()
    text = _UNIT.sub("", text.rstrip(".").strip())
    text = _TEXT_COMMAND.sub(r"\1", text)
    for pattern, spelling in _SYNONYMS:
        text = pattern.sub(spelling, text)
    text = _REMOVED.sub("", text)
    text = _ASSIGNMENT.sub("", text)
    text = _BARE_ROOT.sub(r"\\sqrt{\1}", _FRACTION.sub(r"\\frac", text))
    text = _BARE_FRACTION.sub(_spelled_fraction, text)
    # Not between digits: 1 1/2 is no eleven halves.
    text = re.sub(r"(?<![0-9])\s+|\s+(?![0-9])", "", text).rstrip(".")
    return re.sub(r"(?<![0-9])\.(?=[0-9])", "0.", text)


def slashed_fractions(text: str) -> str:
    r"""Simple `\frac{a}{b}` of normalised text as `(a)/(b)`, or `a/b` for digits; a whole number before it makes it mixed."""
    text = re.sub(r"(?<=[0-9])\\frac\{(\d+)\}\{(\d+)\}", r" \1/\2", text)
    return re.sub(r"\\frac\{(-?[\d.,]+)\}\{([\d.,]+)\}", r"\1/\2", text)


def _spelled_fraction(match: re.Match[str]) -> str:
    top, bottom = match[1] or match[2] or "", match[3] or match[4] or ""
    return rf"\frac{{{top}}}{{{bottom}}}"
