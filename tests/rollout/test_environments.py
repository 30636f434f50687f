from __future__ import annotations

import pytest

from rlkit.errors import ConfigError, PluginError
from rlkit.rollout.environments import load_environment
from rlkit.rollout.foreign_calls import ForeignCalls
from rlkit.types import Prompt

GAME = """
from rlkit.errors import ConfigError
from rlkit.protocols import EnvironmentStep

class Game:
    def __init__(self, size: int, goal: str = "x"):
        self.size, self.goal = size, goal

    @classmethod
    def check_options(cls, size, goal="x"):
        if size < 1:
            raise ConfigError(f"size = {size}")

    def reset(self, prompt):
        return f"{prompt.question} {self.size}{self.goal}"

    def step(self, message):
        return EnvironmentStep("next", 0.5)

class Half:
    def reset(self, prompt):
        return ""

game = Game(3)
"""


@pytest.fixture
def load(tmp_path):
    (tmp_path / "game.py").write_text(GAME)

    def load(name, **options):
        return load_environment(f"{tmp_path}/game.py:{name}", options, ForeignCalls(5.0))

    return load


def test_each_conversation_has_an_object_of_its_own_with_the_options(load):
    maker = load("Game", size=2)
    first, second = (maker.open(Prompt(row_id=row, text="walk")) for row in (0, 1))
    assert first.environment is not second.environment
    assert first.reset() == ({"role": "user", "content": "walk 2x"},)
    step = first.step({"role": "assistant", "content": "go"})
    assert (step.messages, step.reward, step.done) == (({"role": "user", "content": "next"},), 0.5, False)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("Half", {}, "has no method step"),
        ("game", {}, "is a Game; give a class"),
        ("Game", {}, "missing a required argument: 'size'"),
        ("Game", {"size": 1, "depth": 2}, "got an unexpected keyword argument 'depth'"),
        ("Game", {"size": 0}, "size = 0"),
    ],
)
def test_what_cannot_be_played_is_refused_before_the_run(load, name, options, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        load(name, **options)
    assert "\n" not in str(caught.value)


def test_a_missing_class_is_refused(load):
    with pytest.raises(PluginError, match="has no 'Maze'"):
        load("Maze")
