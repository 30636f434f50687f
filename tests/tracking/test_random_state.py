from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from rlkit.errors import CheckpointError
from rlkit.tracking.random_state import random_state, restore_random_state, seed_generators


@pytest.fixture(autouse=True)
def generators(tmp_path: Path):
    (tmp_path / "before.json").write_text(random_state())
    yield
    restore_random_state(tmp_path / "before.json")


def draw() -> tuple[float, ...]:
    """Gaussians come in pairs: a generator remembers the second one."""
    return random.random(), random.gauss(0, 1), np.random.random(), np.random.randn(), torch.randn(1).item()


def test_every_generator_goes_on_where_it_was(tmp_path):
    seed_generators(3)
    draw()
    (tmp_path / "random.json").write_text(random_state())
    expected = [draw(), draw()]
    seed_generators(4)
    restore_random_state(tmp_path / "random.json")
    assert [draw(), draw()] == expected


def test_a_seed_starts_every_generator(tmp_path):
    seed_generators(2**40 + 1)
    first = draw()
    seed_generators(2**40 + 1)
    assert draw() == first
    seed_generators(2)
    assert all(one != other for one, other in zip(draw(), first, strict=True))


def test_saving_changes_nothing(tmp_path):
    seed_generators(3)
    expected = draw()
    seed_generators(3)
    (tmp_path / "random.json").write_text(random_state())
    assert draw() == expected


def test_the_states_of_absent_devices_are_left_out(tmp_path, caplog):
    (tmp_path / "random.json").write_text(random_state())
    content = json.loads((tmp_path / "random.json").read_text())
    here = len(content["cuda"])
    content["cuda"] += [content["torch"]]
    (tmp_path / "random.json").write_text(json.dumps(content))
    caplog.set_level("INFO", logger="rlkit")
    restore_random_state(tmp_path / "random.json")
    assert f"random states of {here + 1} CUDA devices" in caplog.text


@pytest.mark.parametrize("content", ["", "{}", '{"python": [3, [1], null], "numpy": {}}', "[]"])
def test_anything_else_is_refused(tmp_path, content):
    (tmp_path / "random.json").write_text(content)
    with pytest.raises(CheckpointError, match="holds no random state"):
        restore_random_state(tmp_path / "random.json")
