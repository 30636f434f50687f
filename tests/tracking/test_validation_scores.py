from __future__ import annotations

import pytest

from rlkit.tracking.validation_scores import prompt_fingerprint, read_scores, write_scores
from rlkit.types.prompts import Prompt


def prompt(row_id: int, text: str = "1+1=?", reference: str = "2") -> Prompt:
    return Prompt(row_id=row_id, messages=(), text=text, reference=reference, data_source="sums", extra={})


def test_scores_are_read_back(tmp_path):
    write_scores(tmp_path / "validation", 7, [prompt(3), prompt(4)], [[1.0, 0.0], [0.5, 0.5]])
    found = read_scores(tmp_path / "validation", 7)
    assert (found.row_ids, found.data_sources, found.scores) == ((3, 4), ("sums", "sums"), ((1.0, 0.0), (0.5, 0.5)))


def test_prompts_are_matched_by_what_they_ask_whatever_their_order(tmp_path):
    write_scores(tmp_path, 1, [prompt(1, "a"), prompt(2, "b"), prompt(3, "c")], [[1.0], [2.0], [3.0]])
    write_scores(tmp_path, 2, [prompt(3, "c"), prompt(2, "other"), prompt(1, "a")], [[30.0], [20.0], [10.0]])
    first, second = read_scores(tmp_path, 1), read_scores(tmp_path, 2)
    assert first.matched(second) == [((1.0,), (10.0,)), ((3.0,), (30.0,))]


def test_the_reference_is_part_of_what_a_prompt_asks():
    assert prompt_fingerprint(prompt(1)) == prompt_fingerprint(prompt(2))
    assert prompt_fingerprint(prompt(1)) != prompt_fingerprint(prompt(1, reference="3"))


@pytest.mark.parametrize("content", [None, "{", "[]", '{"row_id": [1]}'])
def test_a_missing_or_damaged_file_is_none(content, tmp_path):
    if content is not None:
        (tmp_path / "step_000001.json").write_text(content)
    assert read_scores(tmp_path, 1) is None
