"""What holds for every advantage estimator, and the group baselines by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch

from rlkit.algos.advantages.estimators import ESTIMATORS, AdvantageInputs
from rlkit.config.algorithm import WITHOUT_GROUPS, AdvantageName

GROUPS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
BY_GROUP = [name for name in ESTIMATORS if name not in WITHOUT_GROUPS]


def inputs(*, seed: int = 0, width: int = 6) -> AdvantageInputs:
    """Answers of different lengths with a score on their last token, two of them with tool output inside."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([6, 3, 4, 5, 1, 2, 6, 4])
    mask = torch.arange(width) < lengths[:, None]
    mask[0, 2] = mask[3, 1] = False
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(dim=1)
    rewards = torch.zeros(mask.shape)
    rewards[torch.arange(8), last] = torch.rand(8, generator=generator)
    values = torch.randn(mask.shape, generator=generator)
    greedy = torch.rand(3, generator=generator)[GROUPS]
    parts = torch.rand(8, 2, generator=generator)
    return AdvantageInputs(rewards, mask, GROUPS, values, 0.95, 0.9, greedy, parts, (1.0, 0.5))


def by_hand(name: str, scores: list[float], groups: list[int]) -> list[float]:
    rewards = torch.tensor(scores)[:, None]
    mask = torch.ones(len(scores), 1, dtype=torch.bool)
    inputs = AdvantageInputs(rewards, mask, torch.tensor(groups), None, 1.0, 1.0, None, rewards, (1.0,))
    advantages, returns = ESTIMATORS[name](inputs)
    assert returns is None
    return advantages[:, 0].tolist()


def test_config_and_table_have_the_same_names():
    assert set(get_args(AdvantageName)) == set(ESTIMATORS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dr_grpo", [0.75, -0.25, -0.25, -0.25]),
        ("rloo", [1.0, -1 / 3, -1 / 3, -1 / 3]),
        ("grpo_passk", [2.0, 0.0, 0.0, 0.0]),  # (1 - 0) / standard deviation 1/2
        ("opo", [0.75, -0.25, -0.25, -0.25]),  # equal lengths: the plain mean
        ("gpg", [3.0, -1.0, -1.0, -1.0]),  # alpha = 4 answers / 1 of them scored
        ("reinforce_plus_plus_baseline", [1.5, -0.5, -0.5, -0.5]),
        ("gdpo", [1.5, -0.5, -0.5, -0.5]),
    ],
)
def test_one_right_answer_of_four_by_hand(name, expected):
    assert by_hand(name, [1.0, 0.0, 0.0, 0.0], [0, 0, 0, 0]) == pytest.approx(expected, abs=1e-4)


def test_opo_weighs_answers_by_their_length():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]], dtype=torch.bool)
    rewards = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    advantages, _ = ESTIMATORS["opo"](AdvantageInputs(rewards, mask, torch.zeros(2).long(), None, 1.0, 1.0))
    assert advantages[:, 0].tolist() == pytest.approx([1 - 3 / 4, -3 / 4])


def test_reward_to_go_discounts_sampled_tokens_only():
    from rlkit.algos.advantages.reward_to_go import compute_reward_to_go

    rewards = torch.tensor([[1.0, 9.0, 0.0, 4.0]])
    mask = torch.tensor([[True, False, True, True]])
    assert compute_reward_to_go(rewards, mask, gamma=0.5).tolist() == [[1 + 0.5 * (0 + 0.5 * 4), 0, 2, 4]]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_stands_outside_the_mask_is_of_no_account(name):
    clean = inputs()
    spoilt = replace(
        clean,
        token_rewards=clean.token_rewards.masked_fill(~clean.mask, float("nan")),
        values=clean.values.masked_fill(~clean.mask, float("inf")),
    )
    expected, actual = ESTIMATORS[name](clean)[0], ESTIMATORS[name](spoilt)[0]
    torch.testing.assert_close(actual, expected)
    assert not actual[~clean.mask].any()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_padding_columns_change_nothing(name):
    narrow = inputs()
    wide = replace(
        narrow,
        token_rewards=torch.nn.functional.pad(narrow.token_rewards, (0, 3), value=5.0),
        mask=torch.nn.functional.pad(narrow.mask, (0, 3)),
        values=torch.nn.functional.pad(narrow.values, (0, 3), value=-5.0),
    )
    torch.testing.assert_close(ESTIMATORS[name](wide)[0][:, :6], ESTIMATORS[name](narrow)[0])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_permuting_the_rows_permutes_the_advantages(name):
    plain = inputs()
    order = torch.tensor([5, 0, 7, 2, 4, 6, 1, 3])
    mixed = AdvantageInputs(
        plain.token_rewards[order],
        plain.mask[order],
        plain.group_ids[order],
        plain.values[order],
        plain.gamma,
        plain.lam,
        plain.greedy_scores[order],
        plain.part_scores[order],
        plain.part_weights,
    )
    torch.testing.assert_close(ESTIMATORS[name](mixed)[0], ESTIMATORS[name](plain)[0][order])


@pytest.mark.parametrize("name", BY_GROUP)
def test_equal_answers_to_a_prompt_teach_nothing(name):
    assert by_hand(name, [0.5, 0.5, 0.5, 0.5], [0, 0, 1, 1]) == pytest.approx([0, 0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("name", [name for name in BY_GROUP if name not in ("grpo_passk",)])
def test_better_answers_of_a_group_get_larger_advantages(name):
    low, middle, high = by_hand(name, [0.1, 0.5, 0.9], [0, 0, 0])
    assert low < middle < high


@pytest.mark.parametrize("name", ESTIMATORS)
def test_inserting_tool_output_leaves_the_other_tokens_alone(name):
    plain = inputs()

    def insert(tensor, fill):
        block = torch.full((8, 2), fill, dtype=tensor.dtype)
        return torch.cat([tensor[:, :1], block, tensor[:, 1:]], dim=1)

    spread = replace(
        plain,
        token_rewards=insert(plain.token_rewards, float("nan")),
        mask=insert(plain.mask, False),
        values=insert(plain.values, 3.0),
    )
    keep = [0, *range(3, 8)]
    torch.testing.assert_close(ESTIMATORS[name](spread)[0][:, keep], ESTIMATORS[name](plain)[0])


def test_gdpo_gives_a_part_of_small_spread_its_full_voice():
    """One part in hundreds, one in hundredths: after normalising each, they weigh the same."""
    parts = torch.tensor([[300.0, 0.00], [100.0, 0.03], [200.0, 0.01], [200.0, 0.02]])
    mask = torch.ones(4, 1, dtype=torch.bool)
    inputs = AdvantageInputs(torch.zeros(4, 1), mask, torch.zeros(4).long(), None, 1.0, 1.0, None, parts, (1.0, 1.0))
    advantages, _ = ESTIMATORS["gdpo"](inputs)
    standard = (parts - parts.mean(dim=0)) / parts.std(dim=0)
    expected = standard.sum(dim=1)
    torch.testing.assert_close(advantages[:, 0], expected / expected.std(), rtol=1e-3, atol=1e-3)


def test_remax_takes_off_the_greedy_answers_score():
    rewards, mask = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.ones(2, 2, dtype=torch.bool)
    inputs = AdvantageInputs(rewards, mask, torch.tensor([0, 0]), None, 1.0, 1.0, torch.tensor([0.4, 0.4]))
    advantages, _ = ESTIMATORS["remax"](inputs)
    assert advantages[:, 0].tolist() == pytest.approx([0.6, -0.4])
