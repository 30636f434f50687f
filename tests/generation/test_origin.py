"""One completions file holds the answers of one model under one set of settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlkit.errors import ConfigError
from rlkit.generation.origin import check_origin, only_writer, origin_path, weights_fingerprint

ORIGIN = {"model.path": "a", "generation.stop": ("x",), "run.seed": 0}


def test_the_same_settings_may_go_on(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    check_origin(output, ORIGIN)
    output.write_text("{}\n")
    check_origin(output, ORIGIN)


def test_the_first_difference_is_named(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    check_origin(output, ORIGIN)
    output.write_text("{}\n")
    with pytest.raises(ConfigError, match=r"was begun with run\.seed = 0, this run has 1: choose another --output"):
        check_origin(output, {**ORIGIN, "run.seed": 1})


def test_a_file_without_answers_starts_anew(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    check_origin(output, ORIGIN)
    check_origin(output, {**ORIGIN, "run.seed": 1})
    assert '"run.seed": 1' in origin_path(output).read_text()


@pytest.mark.parametrize("position", [0, 5_000, 1_000_000, 2_999_999])
def test_changed_weights_have_another_fingerprint(position: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(3_000_000))
    before = weights_fingerprint(tmp_path)
    assert weights_fingerprint(tmp_path) == before
    start = max(0, position - 60_000)
    changed = bytearray(3_000_000)
    changed[start : position + 1] = b"\x01" * (position + 1 - start)  # a training step changes all of a tensor
    path.write_bytes(bytes(changed))
    assert weights_fingerprint(tmp_path) != before


def test_other_sizes_and_names_have_another_fingerprint(tmp_path: Path) -> None:
    fingerprints = set()
    for name, size in (("a.safetensors", 10), ("a.safetensors", 11), ("b.safetensors", 11)):
        for old in tmp_path.glob("*"):
            old.unlink()
        (tmp_path / name).write_bytes(bytes(size))
        fingerprints.add(weights_fingerprint(tmp_path))
    assert len(fingerprints) == 3


def test_two_runs_never_write_one_file(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    check_origin(output, ORIGIN)
    with (
        only_writer(output),
        pytest.raises(ConfigError, match=r"another `rlkit generate` \(process \d+ on .+\) is writing"),
        only_writer(output),
    ):
        pass
    with only_writer(output):
        pass
