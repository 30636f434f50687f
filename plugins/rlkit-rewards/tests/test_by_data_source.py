"""Rows of several data sets, each judged as its authors do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rlkit_rewards.by_data_source import BUILT_IN, FORMS, ByDataSource
from rlkit_rewards.options import ByDataSourceOptions

from rlkit.errors import ConfigError, PluginNotFoundError, TransientRewardError
from rlkit.plugin.discovery import installed_plugins
from rlkit.types import Prompt, Reward, Sample


def judge(data_source: str, response: str, reference: Any, **options: Any) -> Reward:
    sample = Sample(Prompt(0, text="q", reference=reference, data_source=data_source), response)
    return ByDataSource(ByDataSourceOptions(**options))([sample])[0]


# data source, response, reference, score as verl's own scorer gives it
VERL = [
    ("openai/gsm8k", "so\n#### 18", "18", 1.0),
    ("openai/gsm8k", "The answer is 18", "18", 0.0),
    ("openai/gsm8k", "#### 17", "18", 0.0),
    ("lighteval/MATH", r"so \boxed{\frac{1}{2}}", r"\frac12", 1.0),
    ("DigitalLearningGmbH/MATH-lighteval", r"\boxed{3}", "2", 0.0),
    ("lighteval/MATH", "The answer is 18", "18", 0.0),
    ("math_dapo", "hence\nAnswer: 34", "34", 1.0),
    ("math_dapo", "hence\nAnswer: 35", "34", -1.0),
    ("math_dapo", r"hence \boxed{34}", "34", -1.0),
    ("math_dapo", "Answer: 34\n" + "x" * 400, "34", -1.0),
    ("aime_2024", r"Answer: $\boxed{34}$", "34", 1.0),
    ("HuggingFaceH4/aime_2024", "Answer: 33\nAnswer: 34", "34", 1.0),
    ("hiyouga/geometry3k", r"<think>a</think> \boxed{48}", "48", 1.0),
    ("hiyouga/geometry3k", r"\boxed{48}", "48", 0.9),
    ("hiyouga/geometry3k", r"<think>a</think> \boxed{47}", "48", 0.1),
    ("hiyouga/geometry3k", "48", "48", 0.0),
    ("searchR1_nq", "<answer>The Beatles!</answer>", {"target": ["Beatles", "the beatles"]}, 1.0),
    ("searchR1_nq", "The Beatles", {"target": ["Beatles"]}, 0.0),
    ("numina_olympiads", r"\boxed{2}", "2", 1.0),
]


@pytest.mark.parametrize(("data_source", "response", "reference", "score"), VERL)
def test_verls_rows_score_as_they_do_there(data_source: str, response: str, reference: Any, score: float) -> None:
    assert judge(data_source, response, reference).score == pytest.approx(score)


def test_every_built_in_reward_is_installed() -> None:
    names = {plugin.name for plugin in installed_plugins() if plugin.kind.value == "reward_function"}
    assert {entry.reward for entry in BUILT_IN.values()} <= {*names, *FORMS}


def test_a_batch_may_mix_data_sources() -> None:
    rows = [("openai/gsm8k", "#### 1"), ("math_dapo", "Answer: 1"), ("openai/gsm8k", "1")]
    samples = [
        Sample(Prompt(i, text="q", reference="1", data_source=name), text) for i, (name, text) in enumerate(rows)
    ]
    assert [reward.score for reward in ByDataSource(ByDataSourceOptions())(samples)] == [1.0, 1.0, 0.0]


def test_the_users_own_table_wins_and_takes_patterns_options_and_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def score(response, bonus=0.0):\n    return len(response) + bonus\n")
    mine = f"{path}:score"
    scorers = {"openai/*": "gsm8k", "mine/*": mine}
    options = {"gsm8k": {"wrong_score": 0.1}, mine: {"bonus": 0.5}}
    assert judge("openai/gsm8k", "The answer is 18", "18", scorers=scorers, options=options).score == 1.0
    assert judge("openai/gsm8k", "17", "18", scorers=scorers, options=options).score == 0.1
    assert judge("mine/1", "abc", None, scorers=scorers, options=options).score == 3.5
    assert judge("elsewhere", "18", "18", default="exact_match").score == 1.0


def test_an_unknown_data_source_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no reward for the data source 'elsewhere'.*openai/gsm8k"):
        judge("elsewhere", "18", "18")


def test_an_answer_that_its_reward_cannot_judge_is_an_error_not_a_wrong_answer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a number"):
        judge("openai/gsm8k", "18", "no number")
    lost = tmp_path / "lost.py"
    lost.write_text("def score(response):\n    raise KeyError('lost')\n")
    assert judge("mine", "18", "18", default=f"{lost}:score").error == "KeyError: 'lost'"
    path = tmp_path / "busy.py"
    path.write_text(
        "from rlkit.errors import TransientRewardError\n"
        "def score(response):\n    raise TransientRewardError('busy', 2.0)\n"
    )
    with pytest.raises(TransientRewardError, match="busy") as caught:
        judge("mine", "18", "18", default=f"{path}:score")
    assert caught.value.retry_after_s == 2.0


def test_unusable_options_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(PluginNotFoundError, match="gsm9k"):
        judge("a", "b", "c", scorers={"a": "gsm9k"})
    with pytest.raises(ConfigError, match="names 'math', which scorers and default do not"):
        judge("a", "b", "c", options={"math": {}})
    with pytest.raises(ConfigError, match=r"by_data_source\.options\.gsm8k"):
        judge("a", "b", "c", scorers={"a": "gsm8k"}, options={"gsm8k": {"methid": "strict"}})


def test_rewards_are_closed_with_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from pathlib import Path\n"
        "class Mine:\n"
        "    def __call__(self, samples): return [1.0 for _ in samples]\n"
        f"    def close(self): Path({str(tmp_path / 'closed')!r}).touch()\n"
        "mine = Mine()\n"
    )
    reward = ByDataSource(ByDataSourceOptions(default=f"{path}:mine"))
    reward.close()
    assert (tmp_path / "closed").exists()
