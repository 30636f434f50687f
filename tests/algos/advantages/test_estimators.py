"""What holds for every advantage estimator, and the group baselines by hand."""

from __future__ import annotations

from dataclasses import replace

import estimator_cases as cases
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlkit.algos.advantages.estimators import AdvantageInputs
from rlkit.algos.advantages.reward_to_go import compute_reward_to_go

EVERY = pytest.mark.parametrize("name", cases.ESTIMATORS)
SEEDS = st.integers(0, 10_000)
ANSWERS = st.lists(st.integers(1, 5), min_size=1, max_size=4).filter(lambda groups: sum(groups) > 1).map(tuple)
"""How many answers each prompt has."""


def by_hand(name: str, scores: list[float], groups: list[int], **changes: torch.Tensor) -> list[float]:
    """The advantages of answers of one token each."""
    rewards = torch.tensor(scores)[:, None]
    mask = torch.ones_like(rewards, dtype=torch.bool)
    inputs = AdvantageInputs(
        token_rewards=rewards,
        mask=mask,
        group_ids=torch.tensor(groups),
        old_log_probs=torch.full_like(rewards, -0.7),
        values=None,
        part_scores=rewards,
        part_weights=(1.0,),
        probability_squares=torch.full_like(rewards, 0.4),
    )
    advantages, returns = cases.estimator(name)(replace(inputs, **changes))
    assert returns is None
    return advantages[:, 0].tolist()


def same(actual: tuple, expected: tuple) -> None:
    """Advantages and returns."""
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-6, atol=1e-9)
    assert (actual[1] is None) == (expected[1] is None)
    if expected[1] is not None:
        torch.testing.assert_close(actual[1], expected[1], rtol=1e-6, atol=1e-9)


def test_the_cases_know_every_input_and_every_estimator():
    assert cases.untouched_fields() == set()
    assert len(cases.ESTIMATORS) >= 12
    assert {"grpo", "optimal_token_baseline", *cases.WHITENED} <= set(cases.BY_GROUP) < set(cases.ESTIMATORS)


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
        ("optimal_token_baseline", [0.75, -0.25, -0.25, -0.25]),  # equal probabilities: the plain mean
    ],
)
def test_one_right_answer_of_four_by_hand(name, expected):
    assert by_hand(name, [1.0, 0.0, 0.0, 0.0], [0, 0, 0, 0]) == pytest.approx(expected, abs=1e-4)


def test_opo_weighs_answers_by_their_length():
    inputs, _ = cases.random_inputs(0, groups=(2,), width=3)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]], dtype=torch.bool)
    inputs = cases.with_scores(replace(inputs, mask=mask), torch.tensor([1.0, 0.0], dtype=torch.float64))
    advantages, _ = cases.estimator("opo")(inputs)
    assert advantages[:, 0].tolist() == pytest.approx([1 - 3 / 4, -3 / 4])


def test_reward_to_go_discounts_sampled_tokens_only():
    rewards = torch.tensor([[1.0, 9.0, 0.0, 4.0]])
    mask = torch.tensor([[True, False, True, True]])
    assert compute_reward_to_go(rewards, mask, gamma=0.5).tolist() == [[1 + 0.5 * (0 + 0.5 * 4), 0, 2, 4]]


def test_gdpo_gives_a_part_of_small_spread_its_full_voice():
    """One part in hundreds, one in hundredths: after normalising each, they weigh the same."""
    parts = torch.tensor([[300.0, 0.00], [100.0, 0.03], [200.0, 0.01], [200.0, 0.02]])
    inputs, _ = cases.random_inputs(0, groups=(4,), width=1)
    advantages, _ = cases.estimator("gdpo")(replace(inputs, part_scores=parts, part_weights=(1.0, 1.0)))
    expected = ((parts - parts.mean(dim=0)) / parts.std(dim=0)).sum(dim=1)
    torch.testing.assert_close(advantages[:, 0], expected / expected.std(), rtol=1e-3, atol=1e-3)


def test_remax_takes_off_the_greedy_answers_score():
    inputs, _ = cases.random_inputs(0, groups=(2,), width=1)
    inputs = cases.with_scores(inputs, torch.tensor([1.0, 0.0], dtype=torch.float64))
    advantages, _ = cases.estimator("remax")(replace(inputs, greedy_scores=torch.tensor([0.4, 0.4])))
    assert advantages[:, 0].tolist() == pytest.approx([0.6, -0.4])


@EVERY
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_what_stands_outside_the_mask_is_of_no_account(name, garbage):
    inputs, _ = cases.random_inputs(1)
    expected = cases.estimator(name)(inputs)
    actual = cases.estimator(name)(cases.spoilt(inputs, garbage))
    same(actual, expected)
    assert not actual[0][~inputs.mask].any()
    assert actual[1] is None or not actual[1][~inputs.mask].any()


@EVERY
@cases.FEW_EXAMPLES
@given(seed=SEEDS, groups=ANSWERS, count=st.integers(1, 4))
def test_padding_columns_change_nothing(name, seed, groups, count):
    inputs, _ = cases.random_inputs(seed, groups=groups, width=5)
    advantages, returns = cases.estimator(name)(cases.with_columns(inputs, 5, count, float("nan")))
    assert not advantages[:, 5:].any()
    same((advantages[:, :5], None if returns is None else returns[:, :5]), cases.estimator(name)(inputs))


@EVERY
@cases.FEW_EXAMPLES
@given(seed=SEEDS, groups=ANSWERS, at=st.integers(0, 5), count=st.integers(1, 3))
def test_inserting_tool_output_leaves_the_other_tokens_alone(name, seed, groups, at, count):
    inputs, _ = cases.random_inputs(seed, groups=groups, width=5)
    advantages, returns = cases.estimator(name)(cases.with_columns(inputs, at, count, 3.0))
    keep = [*range(at), *range(at + count, 5 + count)]
    assert not advantages[:, at : at + count].any()
    same((advantages[:, keep], None if returns is None else returns[:, keep]), cases.estimator(name)(inputs))


@EVERY
@cases.FEW_EXAMPLES
@given(seed=SEEDS, groups=ANSWERS, data=st.data())
def test_permuting_the_rows_permutes_the_advantages(name, seed, groups, data):
    inputs, _ = cases.random_inputs(seed, groups=groups)
    order = torch.tensor(data.draw(st.permutations(range(sum(groups)))))
    advantages, returns = cases.estimator(name)(inputs)
    expected = (advantages[order], None if returns is None else returns[order])
    same(cases.estimator(name)(cases.rows_of(inputs, order)), expected)


@pytest.mark.parametrize("name", cases.BY_GROUP)
def test_the_numbers_that_groups_go_by_do_not_matter(name):
    inputs, _ = cases.random_inputs(2)
    renamed = replace(inputs, group_ids=torch.tensor([7, -3, 1000, 4])[inputs.group_ids])
    same(cases.estimator(name)(renamed), cases.estimator(name)(inputs))


@pytest.mark.parametrize("name", [name for name in cases.BY_GROUP if name not in cases.WHITENED])
@cases.FEW_EXAMPLES
@given(seed=SEEDS, score=st.sampled_from([0.0, 1.0, -0.5, 0.1]))
def test_a_group_of_equal_rewards_gets_no_advantage_among_others(name, seed, score):
    inputs, _ = cases.random_inputs(seed, groups=(4, 3))
    scores = torch.rand(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scores[:4] = score
    advantages, _ = cases.estimator(name)(cases.with_scores(inputs, scores))
    assert advantages[:4].abs().max() < 1e-9
    assert advantages[4:].abs().max() > 1e-3


@pytest.mark.parametrize("name", cases.BY_GROUP)
@cases.FEW_EXAMPLES
@given(seed=SEEDS)
def test_a_batch_of_groups_of_equal_rewards_gets_no_advantage(name, seed):
    inputs, _ = cases.random_inputs(seed, groups=(4, 3))
    scores = torch.tensor([0.3, -1.0], dtype=torch.float64)[inputs.group_ids]
    advantages, _ = cases.estimator(name)(cases.with_scores(inputs, scores))
    assert advantages.abs().max() < 1e-9


@pytest.mark.parametrize("name", cases.BY_GROUP)
def test_equal_rewards_cancel_in_float32_too(name):
    inputs, _ = cases.random_inputs(3, groups=(5,), dtype=torch.float32)
    advantages, _ = cases.estimator(name)(cases.with_scores(inputs, torch.full((5,), 0.1)))
    assert advantages.abs().max() < 1e-3  # whitening divides rounding noise by no less than 1e-4


@pytest.mark.parametrize("name", [name for name in cases.BY_GROUP if name != "grpo_passk"])
def test_better_answers_of_a_group_get_larger_advantages(name):
    low, middle, high = by_hand(name, [0.1, 0.5, 0.9], [0, 0, 0])
    assert low < middle < high


@EVERY
def test_float64_stays_float64_and_half_precision_goes_up_to_float32(name):
    inputs, _ = cases.random_inputs(0)
    assert cases.estimator(name)(inputs)[0].dtype == torch.float64
    half = {field: getattr(inputs, field).bfloat16() for field in (*cases.PER_TOKEN, "greedy_scores", "part_scores")}
    assert cases.estimator(name)(replace(inputs, **half))[0].dtype == torch.float32


@pytest.mark.parametrize("name", [name for name in cases.BY_GROUP if name not in (*cases.WHITENED, "gpg")])
def test_the_rewards_of_another_prompt_do_not_matter(name):
    """Except to those whose scale is the batch's."""
    inputs, _ = cases.random_inputs(4, groups=(3, 3))
    other = replace(inputs, token_rewards=inputs.token_rewards * torch.tensor([1, 1, 1, 5, 5, 5])[:, None])
    advantages, expected = cases.estimator(name)(other)[0], cases.estimator(name)(inputs)[0]
    torch.testing.assert_close(advantages[:3], expected[:3])
    assert not torch.equal(advantages[3:], expected[3:])
