"""What a person reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rlkit.evaluation.completions import JudgesAnswers
from rlkit.evaluation.evaluate import evaluate_files
from rlkit.evaluation.statistics import IntervalSettings
from rlkit.evaluation.tables import conclusions, result_tables
from rlkit.evaluation.text_table import TextTable, plain_text
from rlkit.types import Reward, Sample

Write = Callable[..., str]
SETTINGS = IntervalSettings(bootstrap_samples=200)


def test_shares_are_in_percent_with_their_interval(scorer: JudgesAnswers, write_completions: Write) -> None:
    path = write_completions("a.jsonl", {0: ["1"], 1: ["0"], 2: ["1"], 3: ["cut"]})
    result = evaluate_files([path], scorer, functions=["exact"], settings=SETTINGS)
    lines = plain_text(result_tables(result)[0]).splitlines()
    assert lines[0] == f"{path} (m)"
    assert lines[2].split("  ")[1] == "data source"
    assert [line.split("  ")[1].strip() for line in lines[4:]] == ["even", "odd", "mean of prompts", "mean of sources"]
    assert lines[6].split()[3:] == ["4", "50.0", "%", "15.0", "to", "85.0", "3", "25.0", "%"]
    assert lines[7].split()[3:5] == ["50.0", "%"]
    assert len({len(line) for line in lines[2:]}) == 1, "columns are not aligned"
    assert conclusions(result) == []


def test_a_real_difference_is_said_in_a_sentence(scorer: JudgesAnswers, write_completions: Write) -> None:
    first = write_completions("sft.jsonl", {row: ["0"] for row in range(0, 100, 2)})
    second = write_completions("ppo.jsonl", {row: ["1" if row < 40 else "0"] for row in range(0, 100, 2)})
    result = evaluate_files([first, second], scorer, functions=["exact"], settings=SETTINGS)
    sentence = conclusions(result)[0].replace(f"{Path(first).parent}/", "")
    assert sentence.startswith("ppo.jsonl is better than sft.jsonl by 40.0 points (95 % interval +")
    assert "p < 0.0001, mid-p McNemar test, 50 prompts)." in sentence
    table = plain_text(result_tables(result)[-1])
    assert "better" in table.splitlines()[-1]


def test_chance_is_called_not_significant_with_what_could_have_been_found(
    scorer: JudgesAnswers, write_completions: Write
) -> None:
    first = write_completions("a.jsonl", {row: ["0", "1"] for row in range(0, 40, 2)})
    second = write_completions("b.jsonl", {row: ["1", str(row // 2 % 2)] for row in range(0, 40, 2)})
    third = write_completions("c.jsonl", {row: ["1" if row == 2 else "0", "1"] for row in range(0, 40, 2)})
    result = evaluate_files([first, third, second], scorer, functions=["exact"], settings=SETTINGS)
    sentence = conclusions(result)[0]
    assert "is not significant: +2.5 points (95 % interval" in sentence
    assert "p = 1.00, sign-flip permutation test over prompts" in sentence
    assert "would be found 4 times in 5" in sentence
    assert "Holm" in plain_text(result_tables(result)[-1])


def test_other_scores_are_plain_numbers_with_their_parts(write_completions: Write) -> None:
    class Length:
        def score(self, samples: Sequence[Sample]) -> list[Reward]:
            lengths = [len(sample.response) for sample in samples]
            return [Reward(n / 3, {"length": n / 3, "length/characters": n}) for n in lengths]

        def extract_answers(self, samples: Sequence[Sample]) -> None:
            return None

    path = write_completions("a.jsonl", {0: ["ab"], 2: ["a"], 4: ["abcd"]})
    result = evaluate_files([path], Length(), functions=["length"], settings=SETTINGS)
    text = plain_text(result_tables(result)[0])
    assert "0.7778" in text
    assert text.splitlines()[-1] == "  parts: length 0.7778, length/characters 2.333"


def test_what_several_answers_are_worth_together_has_a_table_of_its_own(
    scorer: JudgesAnswers, write_completions: Write
) -> None:
    path = write_completions("a.jsonl", {row: ["1", "0", "1", "0"] for row in range(4)})
    result = evaluate_files([path], scorer, functions=["exact"], settings=SETTINGS)
    table = result_tables(result)[1]
    assert [row[:3] for row in table.rows[:3]] == [
        ("even", "pass@2", "83.3 %"),
        ("", "pass@4", "100.0 %"),
        ("", "maj@4", "50.0 %"),
    ]
    for shown in result_tables(result):
        assert max(map(len, plain_text(shown).splitlines()[2:])) <= 80


def test_errors_and_clusters_are_columns_where_there_are_any(scorer: JudgesAnswers, write_completions: Write) -> None:
    path = write_completions("a.jsonl", {row: ["1", "boom" if row == 2 else "0"] for row in range(30)})
    plain, clustered = (
        result_tables(evaluate_files([path], scorer, functions=["exact"], settings=SETTINGS, cluster=cluster))[0]
        for cluster in ("", "family")
    )
    assert "errors" in plain.header
    assert "clusters" not in plain.header
    assert clustered.header[2] == "clusters"
    assert clustered.rows[2][2] == "6", "three families in each of two sources"


def test_a_table_that_is_too_wide_stands_upright_or_is_broken() -> None:
    wide = TextTable("t", ("name", *(f"column {n}" for n in range(9))), (("a", *"123456789"),))
    upright = plain_text(wide, width=40).splitlines()[2:]
    assert [line.split()[0] for line in upright[:1]] == ["name"]
    assert len(upright) == 11
    many = TextTable("t", wide.header, tuple((f"a long name {n}", *"123456789") for n in range(9)))
    blocks = plain_text(many, width=60).splitlines()[2:]
    assert max(map(len, blocks)) <= 60
    assert blocks.count("") == 2, "three blocks"
    assert sum("a long name 3" in line for line in blocks) == 3
    assert [n for n in range(9) if not any(f"column {n}" in line for line in blocks)] == []


def test_prompts_are_a_column_only_where_comparisons_differ_in_them(
    scorer: JudgesAnswers, write_completions: Write
) -> None:
    first = write_completions("a.jsonl", {row: ["1"] for row in range(6)})
    second = write_completions("b.jsonl", {row: ["0"] for row in range(6)})
    third = write_completions("c.jsonl", {row: ["0"] for row in range(4)})

    def header(*paths: str) -> tuple[str, ...]:
        return result_tables(evaluate_files(paths, scorer, functions=["exact"], settings=SETTINGS))[-1].header

    assert "prompts" not in header(first, second)
    assert "prompts" in header(first, second, third)
