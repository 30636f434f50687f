"""What every advantage estimator must do: one number for each sampled token, deaf to padding, order and tool output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from rlkit.algos.advantages.estimators import AdvantageInputs, Estimator
    from rlkit.testing import ContractContext

PER_TOKEN = ("token_rewards", "old_log_probs", "values", "probability_squares")
"""Fields of `AdvantageInputs` with one number for each token."""


def gives_one_finite_number_for_each_token(context: ContractContext) -> None:
    given = _inputs()
    for values in _estimate(context, given):
        assert values.shape == given.mask.shape, f"got shape {list(values.shape)} for {list(given.mask.shape)}"
        assert values.isfinite().all(), "not all numbers are finite"
        assert not values[~given.mask].any(), "tokens that the policy did not sample must get 0"


def gives_targets_when_it_reads_a_critic(context: ContractContext) -> None:
    """A critic that is never told what to predict would stay as it is."""
    _, returns = _estimator(context)(_inputs())
    reads = "critic" in context.plugin.spec.needs
    assert (returns is not None) == reads, (
        "returns for the critic must be given exactly when the description says needs=('critic',)"
    )


def padding_is_of_no_account(context: ContractContext) -> None:
    given = _inputs()
    spoilt = {name: getattr(given, name).masked_fill(~given.mask, float("nan")) for name in PER_TOKEN}
    _same(_estimate(context, given), _estimate(context, replace(given, **spoilt)), "what stands outside the mask")


def the_order_of_rows_is_of_no_account(context: ContractContext) -> None:
    given = _inputs()
    order = [5, 2, 7, 0, 3, 6, 1, 4]
    rows: dict[str, Any] = {}
    for field in fields(given):
        value = getattr(given, field.name)
        rows[field.name] = value if isinstance(value, tuple) else value[order]
    expected = tuple(values[order] for values in _estimate(context, given))
    _same(expected, _estimate(context, replace(given, **rows)), "the order of the rows")


def tool_output_is_stepped_over(context: ContractContext) -> None:
    """Tokens that the policy did not sample, put between its own, leave the others' advantages as they are."""
    import torch

    given = _inputs()
    width = given.mask.shape[1]
    keep = torch.tensor([0, 1, *range(3, width + 1)])
    wider: dict[str, Any] = {}
    for name in (*PER_TOKEN, "mask"):
        value = getattr(given, name)
        wide = torch.zeros(len(value), width + 1, dtype=value.dtype)
        wide[:, keep] = value
        wider[name] = wide
    found = tuple(values[:, keep] for values in _estimate(context, replace(given, **wider)))
    _same(_estimate(context, given), found, "tool output inside the answers")


def leaves_its_inputs_alone_and_says_the_same_twice(context: ContractContext) -> None:
    given = _inputs()
    before = given.token_rewards.clone()
    first = _estimate(context, given)
    assert given.token_rewards.equal(before), "the token rewards were changed in place"
    _same(first, _estimate(context, given), "being asked before")


CHECKS: tuple[Callable[[ContractContext], None], ...] = (
    gives_one_finite_number_for_each_token,
    gives_targets_when_it_reads_a_critic,
    padding_is_of_no_account,
    the_order_of_rows_is_of_no_account,
    tool_output_is_stepped_over,
    leaves_its_inputs_alone_and_says_the_same_twice,
)


def _inputs() -> AdvantageInputs:
    """Eight answers to three prompts, of different lengths, everything there that an estimator may ask for."""
    import torch

    from rlkit.algos.advantages.estimators import AdvantageInputs

    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([6, 3, 4, 5, 1, 2, 6, 4])
    mask = torch.arange(6) < lengths[:, None]
    groups = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    token_rewards = torch.zeros(mask.shape)
    token_rewards[torch.arange(8), lengths - 1] = torch.rand(8, generator=generator)

    def drawn(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    return AdvantageInputs(
        token_rewards=token_rewards,
        mask=mask,
        group_ids=groups,
        old_log_probs=-drawn(*mask.shape),
        values=drawn(*mask.shape),
        greedy_scores=drawn(3)[groups],
        part_scores=drawn(8, 2),
        part_weights=(1.0, 0.5),
        probability_squares=drawn(*mask.shape),
    )


def _estimator(context: ContractContext) -> Estimator:
    from rlkit.algos.user_functions import make_estimator

    return make_estimator(context.plugin, context.options, where="options")


def _estimate(context: ContractContext, given: AdvantageInputs) -> tuple[Tensor, ...]:
    return tuple(values for values in _estimator(context)(given) if values is not None)


def _same(expected: tuple[Tensor, ...], found: tuple[Tensor, ...], what: str) -> None:
    for left, right in zip(expected, found, strict=True):
        assert left.allclose(right, rtol=1e-4, atol=1e-6), f"{what} changed the numbers"
