"""From names in a project file to functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlkit.config.reward_sections import RewardSection
from rlkit.errors import ConfigError, PluginNotFoundError, RewardError
from rlkit.rewards.resolve import short_labels
from rlkit.rewards.scorer import build_scorer
from rlkit.types import Prompt, Sample

SAMPLE = Sample(Prompt(0, text="2+2=", reference="4"), "#### 4")

REWARD_FILE = """
class Judge:
    def __call__(self, samples):
        return [0.5 for _ in samples]

def score(response, reference, bonus=0.0):
    return float(reference in response) + bonus

def silly(a, b):
    return 0
"""


@pytest.fixture
def reward_file(tmp_path: Path) -> Path:
    path = tmp_path / "reward.py"
    path.write_text(REWARD_FILE)
    return path


def test_plugins_files_and_classes_add_up(reward_file: Path) -> None:
    section = RewardSection(
        functions=("gsm8k", f"{reward_file}:score", f"{reward_file}:Judge"),
        weights=(1.0, 2.0, 1.0),
        options={"gsm8k": {"method": "strict"}, f"{reward_file}:score": {"bonus": 0.25}},
    )
    with build_scorer(section) as scorer:
        reward = scorer.score([SAMPLE])[0]
        assert scorer.extract_answers([SAMPLE]) == ["4"]
    assert reward.score == 1 + 2 * 1.25 + 0.5
    assert set(reward.parts) == {"gsm8k", "gsm8k/correct", "gsm8k/answered", "score", "Judge"}


def test_mistakes_are_refused_before_anything_is_scored(reward_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"reward\.functions is empty"):
        build_scorer(RewardSection())
    with pytest.raises(ConfigError, match="names 'gsm8k' twice"):
        build_scorer(RewardSection(functions=("gsm8k", "gsm8k")))
    with pytest.raises(PluginNotFoundError, match="Did you mean 'gsm8k'"):
        build_scorer(RewardSection(functions=("gsm8kk",)))
    with pytest.raises(ConfigError, match=r"reward\.options\.gsm8k\.methd"):
        build_scorer(RewardSection(functions=("gsm8k",), options={"gsm8k": {"methd": "strict"}}))
    with pytest.raises(ConfigError, match=r"no option 'bnus'.*'bonus'"):
        name = f"{reward_file}:score"
        build_scorer(RewardSection(functions=(name,), options={name: {"bnus": 1}}))
    with pytest.raises(RewardError, match=r"signature \(a, b\)"):
        build_scorer(RewardSection(functions=(f"{reward_file}:silly",)))


def test_labels_are_short_and_unique() -> None:
    assert short_labels(["gsm8k", "reward.py:score"]) == ["gsm8k", "score"]
    assert short_labels(["a.py:score", "lib/b.py:score", "my.pkg:score"]) == ["a.score", "b.score", "my.pkg.score"]
    assert short_labels(["x/a.py:score", "y/a.py:score"]) == ["x/a.py:score", "y/a.py:score"]
    assert short_labels(["score", "a.py:score"]) == ["score", "a.score"]
