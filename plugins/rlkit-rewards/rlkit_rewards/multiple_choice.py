"""Multiple choice: the answer chooses what the reference does, however it says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlkit.types import Reward, Sample
from rlkit_rewards.choice_reading import AMBIGUOUS, find_choice
from rlkit_rewards.options import MultipleChoiceOptions

COLUMNS = ("choices", "options")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
UNKNOWN_CHOICES = 4


class MultipleChoice:
    """Score 1 for the right choice, `wrong_score` for another one, 0 for none or several.

    Parts: correct, answered (1 when one choice was made). A reference is a label, the text of a choice, or the position
    of one, from 0, where the row has the choices.
    """

    judges_apart = True

    def __init__(self, options: MultipleChoiceOptions) -> None:
        self.options = options

    def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        return [self._judge(sample) for sample in samples]

    def extract_answer(self, response: str) -> str | None:
        """The chosen letter; None when there is none. Choices that only the row knows are read by their letters."""
        return find_choice(response, _lettered(self.options.choices) or _unknown_choices("")) or None

    def _judge(self, sample: Sample) -> Reward:
        choices = self._choices(sample)
        expected = _expected(sample.prompt.reference, choices)
        given = find_choice(sample.response, choices)
        if given is None or given == AMBIGUOUS:
            return Reward(0.0, {"correct": 0.0, "answered": 0.0})
        if given == expected:
            return Reward(1.0, {"correct": 1.0, "answered": 1.0})
        return Reward(self.options.wrong_score, {"correct": 0.0, "answered": 1.0})

    def _choices(self, sample: Sample) -> Mapping[str, str]:
        """Text by label."""
        if self.options.choices:
            return _lettered(self.options.choices)
        row = sample.prompt.extra
        column = self.options.column or next((name for name in COLUMNS if name in row), "")
        if not column:
            return _unknown_choices(sample.prompt.reference)
        if column not in row:
            raise ValueError(f"the row has no column {column!r} (reward.options.multiple_choice.column)")
        return _of_row(row[column], column)


def _of_row(value: Any, column: str) -> Mapping[str, str]:
    if isinstance(value, Mapping) and "text" in value:
        texts = [str(text) for text in value["text"]]
        labels = [str(label) for label in value.get("label") or LETTERS[: len(texts)]]
        found = dict(zip(labels, texts, strict=len(labels) == len(texts)))
    elif isinstance(value, Mapping):
        found = {str(label): str(text) for label, text in value.items()}
    elif isinstance(value, Sequence) and not isinstance(value, str):
        found = dict(_lettered([str(text) for text in value]))
    else:
        found = {}
    if len(found) < 2:
        raise ValueError(f"column {column!r} holds {value!r}, which is no list of choices")
    return found


def _lettered(texts: Sequence[str]) -> Mapping[str, str]:
    if len(texts) > len(LETTERS):
        raise ValueError(f"{len(texts)} choices are more than there are letters")
    return dict(zip(LETTERS, texts, strict=False))


def _unknown_choices(reference: Any) -> Mapping[str, str]:
    """A to D, more where the reference is a later letter; digits where it is one."""
    text = str(reference).strip(" .()")
    if text.isascii() and text.isdigit() and len(text) == 1:
        return dict.fromkeys("123456789" if text != "0" else "0123456789", "")
    count = max(UNKNOWN_CHOICES, LETTERS.find(text.upper()) + 1) if len(text) == 1 else UNKNOWN_CHOICES
    return dict.fromkeys(LETTERS[:count], "")


def _expected(reference: Any, choices: Mapping[str, str]) -> str:
    """The label that the reference means. Raises `ValueError` when it means none."""
    if reference is None or reference == "":
        raise ValueError("the row has no reference answer (see data.reference_key)")
    text = str(reference).strip()
    bare = text.strip(" .()")
    by_case = {label.casefold(): label for label in choices}
    if not isinstance(reference, int) and bare.casefold() in by_case:
        return by_case[bare.casefold()]
    exact = [label for label, choice in choices.items() if choice and choice.strip() == text]
    if len(exact) == 1:
        return exact[0]
    labels = list(choices)
    if bare.isascii() and bare.isdigit() and int(bare[:6]) < len(labels) and any(choices.values()):
        return labels[int(bare)]
    if bare in choices:
        return bare
    found = find_choice(text, choices)
    if found:
        return found
    raise ValueError(f"the reference {text[:60]!r} is none of the choices {', '.join(labels)}")
