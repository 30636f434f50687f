"""Which of several choices a text makes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rlkit_rewards.extraction import after_answer_is, after_hashes, last_boxed, last_tagged

AMBIGUOUS = ""
"""Several choices, or none of those that there are: more than nothing, but no answer."""

MAX_LINE = 2_000
"""Characters of a line that is looked at; a longer one makes no choice."""

_DECORATION = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textit)\s*(?=\{)|[*_`$\"'{}\u201c\u201d]|\\[()\[\]]")
_MENTION = re.compile(
    r"\b(?:correct|right|best)\s+(?:answer|choice|option)\b|\b(?:choice|option|answer)\b|\bchoose\b|\bpick\b",
    re.IGNORECASE,
)
_JOINED = r"(?:\s|[,;/&|]|\b(?:or|and|und|oder)\b|[().:])*"


def find_choice(response: str, choices: Mapping[str, str]) -> str | None:
    """The label that `response` chooses, AMBIGUOUS for several, None for none.

    choices: text by label ("" where it is not known). Looked at in this order: what is boxed, behind `####`, in
    `<answer>` and behind "the answer is"; the last line; the first line.
    """
    marked = (last_boxed(response), after_hashes(response), last_tagged(response), after_answer_is(response))
    for stated in (*marked, *_outer_lines(response)):
        if stated is None or not stated.strip():
            continue
        found = read_choice(stated, choices)
        if found is not None:
            return found
    return None


def read_choice(stated: str, choices: Mapping[str, str]) -> str | None:
    """The label that a short statement makes: "(B)", "B.", "option B", "b", or the text of a choice."""
    text = _DECORATION.sub("", stated).strip() if len(stated) <= MAX_LINE else ""
    if not text:
        return None
    if (label := _label_of(text, choices)) is not None:
        return label
    labels = _mentions(text, choices)
    if not labels:
        return _choice_in(text, choices)
    if _begins_with(text, labels[0]):
        return AMBIGUOUS if _is_list(text, choices) else labels[0]
    return labels[0] if len(set(labels)) == 1 else AMBIGUOUS


def _outer_lines(response: str) -> tuple[str | None, str | None]:
    """The last and the first line that are not empty."""
    text = response.strip()
    return text[text.rfind("\n") + 1 :], text.split("\n", 1)[0]


def _label_of(text: str, choices: Mapping[str, str]) -> str | None:
    """The text is nothing but a label, in either case, or nothing but a choice."""
    bare = text.strip(" \t.,:;()[]!").casefold()
    for label in choices:
        if bare == label.casefold():
            return label
    plain = _plain(text)
    equal = [label for label, choice in choices.items() if choice and _plain(choice) == plain]
    return equal[0] if len(equal) == 1 else None


def _mentions(text: str, choices: Mapping[str, str]) -> list[str]:
    """Labels that stand alone in the text, those in brackets only where there are any."""
    alternatives = "|".join(map(re.escape, choices))
    bracketed: list[str] = re.findall(rf"[(\[]({alternatives})[)\]]", text)
    if bracketed:
        return bracketed
    found: list[str] = []
    for match in re.finditer(rf"(?<![\w.\-])({alternatives})(?![\w\-\u2019]|\.[0-9])", text):
        # "A" before a word in small letters is mostly an article.
        article = match[1] in ("A", "I") and re.match(r"\s+(?!or\b|and\b)[a-z]", text[match.end() :])
        if not article or _MENTION.search(text[max(0, match.start() - 12) : match.start()]):
            found.append(match[1])
    return found


def _begins_with(text: str, label: str) -> bool:
    return re.match(rf"[(\[]?{re.escape(label)}(?:[)\]]|[.:,]|\s|$)", text) is not None


def _is_list(text: str, choices: Mapping[str, str]) -> bool:
    """Another label follows the first at once: "A or B", "A, B, C", "(A) (B)"; "B) Paris, not A" is no list."""
    alternatives = "|".join(map(re.escape, choices))
    first = re.match(rf"[(\[]?({alternatives}){_JOINED}[(\[]?({alternatives})(?!\w)", text)
    return first is not None and first[1] != first[2]


def _choice_in(text: str, choices: Mapping[str, str]) -> str | None:
    """The one choice whose text stands in the statement; a longer text wins over one inside it."""
    plain = f" {_plain(text)} "
    found = {label: _plain(choice) for label, choice in choices.items() if choice}
    found = {label: choice for label, choice in found.items() if choice and f" {choice} " in plain}
    outer = [
        label
        for label, choice in found.items()
        if not any(choice != other and f" {choice} " in f" {other} " for other in found.values())
    ]
    if not outer:
        return None
    return outer[0] if len(outer) == 1 else AMBIGUOUS


def _plain(text: str) -> str:
    """Words in small letters, one space between them."""
    words: Sequence[str] = re.findall(r"[^\W_]+(?:[.\-][^\W_]+)*", text.casefold())
    return " ".join(words)
