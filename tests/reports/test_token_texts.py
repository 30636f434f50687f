"""Finding the tokenizer of a run, and what single tokens read like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from rlkit.reports.run_data import RunData, read_run
from rlkit.reports.token_texts import token_texts

MakeRun = Callable[..., Path]


def byte_level(folder: Path, pieces: list[str]) -> None:
    """A byte-level tokenizer with the given pieces (Ġ is a space)."""
    tokenizer = Tokenizer(models.BPE(vocab={piece: at for at, piece in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def run_with(make_run: MakeRun, model: dict[str, Any]) -> RunData:
    return read_run(make_run(run={"config": {"model": model}}))


def test_token_texts_are_those_of_the_model_s_tokenizer(make_run: MakeRun, tmp_path: Path) -> None:
    byte_level(tmp_path / "start", ["a", "Ġb", "Ċ", "â"])
    run = run_with(make_run, {"path": str(tmp_path / "start")})
    assert token_texts(run, {0, 1, 2, 3, 99}) == {0: "a", 1: " b", 2: "\n", 3: "\u2039â\u203a"}


def test_a_relative_path_is_looked_for_from_the_run_upwards(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    byte_level(tmp_path / "models" / "start", ["x"])
    monkeypatch.chdir(tmp_path.parent)
    assert token_texts(run_with(make_run, {"path": "models/start"}), {0}) == {0: "x"}


def test_another_tokenizer_than_the_model_s_own_comes_first(make_run: MakeRun, tmp_path: Path) -> None:
    byte_level(tmp_path / "start", ["x"])
    byte_level(tmp_path / "other", ["y"])
    run = run_with(make_run, {"path": str(tmp_path / "start"), "tokenizer": str(tmp_path / "other")})
    assert token_texts(run, {0}) == {0: "y"}


def test_the_run_s_own_model_stands_in_for_one_that_is_gone(make_run: MakeRun, tmp_path: Path) -> None:
    run = run_with(make_run, {"path": str(tmp_path / "gone")})
    assert token_texts(run, {0}) == {}
    byte_level(run.folder / "model", ["z"])
    assert token_texts(run, {0}) == {0: "z"}


def test_a_damaged_tokenizer_is_none(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "tokenizer.json").write_text("{")
    assert token_texts(run_with(make_run, {"path": str(tmp_path / "start")}), {0}) == {}


def test_words_of_a_sentencepiece_vocabulary_keep_their_space(make_run: MakeRun, tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"▁is": 0, "n": 1}, merges=[]))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert token_texts(run_with(make_run, {"path": str(tmp_path)}), {0, 1}) == {0: " is", 1: "n"}
