"""What a person reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlkit.evaluation.evaluate import evaluate_files
from rlkit.evaluation.statistics import IntervalSettings
from rlkit.evaluation.tables import conclusions, plain_text, result_tables
from rlkit.rewards.scorer import Scorer

Write = Callable[..., str]
SETTINGS = IntervalSettings(bootstrap_samples=200)


def test_shares_are_in_percent_with_their_interval(scorer: Scorer, write_completions: Write) -> None:
    path = write_completions("a.jsonl", {0: ["1"], 1: ["0"], 2: ["1"], 3: ["cut"]})
    result = evaluate_files([path], scorer, functions=["exact"], settings=SETTINGS)
    lines = plain_text(result_tables(result)[0]).splitlines()
    assert lines[0] == f"{path} (m)"
    assert lines[2].split("  ")[1] == "data source"
    assert lines[4].split() == ["all", "4", "50.0", "%", "15.0", "to", "85.0", "%", "3", "25.0", "%"]
    assert [line.split()[0] for line in lines[5:]] == ["even", "odd"]
    assert len({len(line) for line in lines[2:]}) == 1, "columns are not aligned"
    assert conclusions(result) == []


def test_a_real_difference_is_said_in_a_sentence(scorer: Scorer, write_completions: Write) -> None:
    first = write_completions("sft.jsonl", {row: ["0"] for row in range(0, 100, 2)})
    second = write_completions("ppo.jsonl", {row: ["1" if row < 40 else "0"] for row in range(0, 100, 2)})
    result = evaluate_files([first, second], scorer, functions=["exact"], settings=SETTINGS)
    sentence = conclusions(result)[0].replace(f"{Path(first).parent}/", "")
    assert sentence.startswith("ppo.jsonl is better than sft.jsonl by 40.0 points (95 % interval +")
    assert "p < 0.0001, exact McNemar test, 50 prompts)." in sentence
    table = plain_text(result_tables(result)[-1])
    assert "better" in table.splitlines()[-1]


def test_chance_is_called_not_significant_with_what_could_have_been_found(
    scorer: Scorer, write_completions: Write
) -> None:
    first = write_completions("a.jsonl", {row: ["0", "1"] for row in range(0, 40, 2)})
    second = write_completions("b.jsonl", {row: ["1", str(row // 2 % 2)] for row in range(0, 40, 2)})
    third = write_completions("c.jsonl", {row: ["1" if row == 2 else "0", "1"] for row in range(0, 40, 2)})
    result = evaluate_files([first, third, second], scorer, functions=["exact"], settings=SETTINGS)
    sentence = conclusions(result)[0]
    assert "is not significant: +2.5 (95 % interval" in sentence
    assert "p = 1.00, sign-flip permutation test over prompts" in sentence
    assert "would be found 4 times in 5" in sentence
    assert "Holm" in plain_text(result_tables(result)[-1])


def test_other_scores_are_plain_numbers_with_their_parts(write_completions: Write, scorer: Scorer) -> None:
    from rlkit.rewards.adapt import adapt_function
    from rlkit.rewards.resolve import ResolvedFunction

    def length(response: str) -> dict[str, float]:
        return {"score": len(response) / 3, "characters": len(response)}

    function = ResolvedFunction("length", "length", length, adapt_function(length, name="length"))
    path = write_completions("a.jsonl", {0: ["ab"], 2: ["a"], 4: ["abcd"]})
    result = evaluate_files([path], Scorer((function,), (1.0,), 30.0, "stop"), functions=["length"], settings=SETTINGS)
    text = plain_text(result_tables(result)[0])
    assert "0.7778" in text
    assert text.splitlines()[-1] == "  parts: length 0.7778, length/characters 2.333"


def test_a_table_that_is_too_wide_stands_upright(scorer: Scorer, write_completions: Write) -> None:
    path = write_completions("a.jsonl", {row: ["1", "0", "1", "0"] for row in range(4)})
    table = result_tables(evaluate_files([path], scorer, functions=["exact"], settings=SETTINGS))[0]
    lying, upright = plain_text(table).splitlines()[2:], plain_text(table, width=80).splitlines()[2:]
    assert max(map(len, lying)) > 80
    assert max(map(len, upright)) <= 80
    assert [line.split()[0] for line in upright if "@" in line] == ["mean@4", "pass@2", "pass@4", "maj@4"]
    assert plain_text(table, width=10) == plain_text(table), "what fits nowhere is left as it is"


def test_prompts_are_a_column_only_where_comparisons_differ_in_them(scorer: Scorer, write_completions: Write) -> None:
    first = write_completions("a.jsonl", {row: ["1"] for row in range(6)})
    second = write_completions("b.jsonl", {row: ["0"] for row in range(6)})
    third = write_completions("c.jsonl", {row: ["0"] for row in range(4)})

    def header(*paths: str) -> tuple[str, ...]:
        return result_tables(evaluate_files(paths, scorer, functions=["exact"], settings=SETTINGS))[-1].header

    assert "prompts" not in header(first, second)
    assert "prompts" in header(first, second, third)
