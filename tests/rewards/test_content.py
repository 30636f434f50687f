"""Equal answers have equal digests everywhere; different ones differ."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from rlkit.rewards.content import answer_digests, seed_of_answer
from rlkit.types import Conversation, Prompt, Sample

PROMPT = Prompt(
    3, messages=({"role": "user", "content": "2+2"},), reference="4", data_source="sums", extra={"level": [1]}
)
SAMPLE = Sample(PROMPT, "It is 4", num_response_tokens=5)
TALK = Conversation(opening=(), replies=({"role": "assistant", "content": "4"},), end="answer")


def test_equal_content_has_an_equal_digest_whatever_the_objects() -> None:
    again = Sample(replace(PROMPT, extra={"level": [1]}), "It is 4", num_response_tokens=5)
    assert answer_digests([SAMPLE]) == answer_digests([again])


@pytest.mark.parametrize(
    "other",
    [
        replace(SAMPLE, response="It is 5"),
        replace(SAMPLE, finish_reason="length"),
        replace(SAMPLE, num_response_tokens=6),
        replace(SAMPLE, conversation=TALK),
        replace(SAMPLE, prompt=replace(PROMPT, reference="5")),
        replace(SAMPLE, prompt=replace(PROMPT, row_id=4)),
        replace(SAMPLE, prompt=replace(PROMPT, data_source="other")),
        replace(SAMPLE, prompt=replace(PROMPT, extra={"level": [2]})),
        replace(SAMPLE, prompt=replace(PROMPT, images=(b"png",))),
    ],
)
def test_whatever_a_function_can_see_changes_the_digest(other: Sample) -> None:
    first, second = answer_digests([SAMPLE, other])
    assert first is not None
    assert second is not None
    assert first != second


def test_content_that_has_no_spelling_has_no_digest() -> None:
    assert answer_digests([replace(SAMPLE, prompt=replace(PROMPT, reference=object()))]) == [None]


def test_broken_unicode_has_a_digest_and_a_seed() -> None:
    broken = replace(SAMPLE, response="\ud800")
    assert answer_digests([broken])[0] is not None
    assert seed_of_answer(0, "f", broken) != seed_of_answer(0, "f", SAMPLE)


def test_seeds_depend_on_run_function_and_answer_and_are_the_same_in_every_process() -> None:
    seed = seed_of_answer(1, "f", SAMPLE)
    assert len({seed, seed_of_answer(2, "f", SAMPLE), seed_of_answer(1, "g", SAMPLE)}) == 3
    code = (
        "from rlkit.rewards.content import seed_of_answer; from rlkit.types import Prompt, Sample;"
        "print(seed_of_answer(1, 'f', Sample(Prompt(3, data_source='sums'), 'It is 4')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.decode().strip() == str(
        seed
    )
