"""What was judged is not judged again, and nothing else is taken for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from rlkit.errors import DataError
from rlkit.evaluation.completions import ANSWERS_AT_ONCE, ScoredFile, load_completions, score_completions
from rlkit.evaluation.verdicts import Verdict, VerdictFile
from rlkit.types import Prompt, Reward, Sample

Write = Callable[..., str]


class Judge:
    """1 for "1"; counts what it judged, breaks off after `limit` answers, cannot judge "boom" while `fails`."""

    def __init__(self, limit: int = 10**9, *, fails: bool = True) -> None:
        self.judged: list[str] = []
        self.limit = limit
        self.fails = fails

    def score(self, samples: Sequence[Sample]) -> list[Reward]:
        if len(self.judged) + len(samples) > self.limit:
            raise KeyboardInterrupt
        self.judged += [sample.response for sample in samples]
        return [
            Reward(0.0, error="exploded")
            if self.fails and sample.response == "boom"
            else Reward(float(sample.response == "1"), {"exact": 1.0})
            for sample in samples
        ]

    def extract_answers(self, samples: Sequence[Sample]) -> list[str | None]:
        return [sample.response for sample in samples]


@pytest.fixture
def score(tmp_path: Path) -> Callable[..., ScoredFile]:
    def run(path: str, judge: Judge, *, name: str = "judge") -> ScoredFile:
        kept = VerdictFile.open(tmp_path / "kept" / "a.verdicts.jsonl", name)
        return score_completions(path, load_completions(path), judge, verdicts=kept)

    return run


def lines(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (tmp_path / "kept" / "a.verdicts.jsonl").read_text().splitlines()]


def test_an_interrupted_scoring_goes_on_where_it_was(
    tmp_path: Path, score: Callable[..., ScoredFile], write_completions: Write
) -> None:
    path = write_completions("a.jsonl", {row: ["1", str(row)] for row in range(2 * ANSWERS_AT_ONCE)})
    first = Judge(limit=ANSWERS_AT_ONCE * 3)
    with pytest.raises(KeyboardInterrupt):
        score(path, first)
    with (tmp_path / "kept" / "a.verdicts.jsonl").open("a") as file:
        file.write('{"row_id": 7, "sam')  # killed in the middle of a line
    second = Judge()
    resumed = score(path, second)
    assert len(first.judged) + len(second.judged) == 4 * ANSWERS_AT_ONCE
    assert resumed.kept == len(first.judged)
    again = Judge()
    once_more = score(path, again)
    assert again.judged == []
    assert once_more.rows == resumed.rows == score_completions(path, load_completions(path), Judge()).rows


def test_the_file_has_one_line_for_each_answer(
    tmp_path: Path, score: Callable[..., ScoredFile], write_completions: Write
) -> None:
    path = write_completions("a.jsonl", {0: ["1", "2"], 3: ["boom"]})
    score(path, Judge())
    found = lines(tmp_path)
    assert [(line["row_id"], line["sample"], line["score"], line["error"]) for line in found] == [
        (0, 0, 1.0, None),
        (0, 1, 0.0, None),
        (3, 0, None, "exploded"),
    ]
    assert found[1]["answer"] == "2"
    assert found[1]["parts"] == {"exact": 1.0}
    assert found[2]["data_source"] == "odd"


def test_errors_are_judged_again(tmp_path: Path, score: Callable[..., ScoredFile], write_completions: Write) -> None:
    path = write_completions("a.jsonl", {0: ["1"], 3: ["boom"]})
    assert score(path, Judge()).rows[1].errors == 1
    mended = Judge(fails=False)
    assert score(path, mended).rows[1].errors == 0
    assert mended.judged == ["boom"]
    assert len(lines(tmp_path)) == 2


def test_other_answers_and_another_judge_are_judged_anew(
    tmp_path: Path, score: Callable[..., ScoredFile], write_completions: Write
) -> None:
    score(write_completions("a.jsonl", {0: ["1"], 2: ["2"], 4: ["3"]}), Judge())
    changed = Judge()
    path = write_completions("b.jsonl", {0: ["1"], 2: ["5"]})
    score(path, changed)
    assert changed.judged == ["5"]
    assert [line["answer"] for line in lines(tmp_path)] == ["1", "5"]
    other = Judge()
    score(path, other, name="another judge")
    assert other.judged == ["1", "5"]


QUESTION = Prompt(0, text="write f", data_source="code", extra={"test_list": ["assert f() == 2"]})
ANSWER = Sample(QUESTION, "def f(): return 1", "stop", 5)


@pytest.mark.parametrize(
    "changed",
    [
        replace(ANSWER, prompt=replace(QUESTION, extra={"test_list": ["assert f() == 1"]})),
        replace(ANSWER, prompt=replace(QUESTION, text=None, messages=({"role": "user", "content": "write f"},))),
        replace(
            ANSWER,
            prompt=replace(
                QUESTION,
                text=None,
                messages=({"role": "system", "content": "briefly"}, {"role": "user", "content": "write f"}),
            ),
        ),
        replace(ANSWER, finish_reason="length"),
        replace(ANSWER, num_response_tokens=900),
    ],
    ids=["tests", "messages", "system prompt", "cut off", "length"],
)
def test_whatever_a_function_sees_of_an_answer_tells_it_from_others(tmp_path: Path, changed: Sample) -> None:
    kept = VerdictFile.open(tmp_path / "a.verdicts.jsonl", "judge")
    kept.add([([ANSWER], [Verdict(Reward(0.0))])])
    again = VerdictFile.open(tmp_path / "a.verdicts.jsonl", "judge")
    assert again.get([ANSWER]) == [Verdict(Reward(0.0))]
    assert again.get([changed]) is None


def test_an_answer_that_has_no_spelling_is_judged_again(tmp_path: Path) -> None:
    sample = replace(ANSWER, prompt=replace(QUESTION, extra={"answer": {1, 2}}))
    kept = VerdictFile.open(tmp_path / "a.verdicts.jsonl", "judge")
    kept.add([([sample], [Verdict(Reward(0.0))])])
    assert VerdictFile.open(tmp_path / "a.verdicts.jsonl", "judge").get([sample]) is None


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text('{"note": 1}\n')
    with pytest.raises(DataError, match=r"notes\.jsonl, line 1 is not a verdict"):
        VerdictFile.open(path, "judge")
    path.write_text("hello\n")
    with pytest.raises(DataError, match="line 1 is not JSON"):
        VerdictFile.open(path, "judge")
