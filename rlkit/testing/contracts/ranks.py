"""What an actor backend must do that can be spread over processes (`PluginSpec.many_devices`). Others have nothing to show.

Each check starts two processes on this machine, joined by gloo.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rlkit.testing.rank_cases import CaseKind, RankCase, RankRecord, train

if TYPE_CHECKING:
    from rlkit.testing import ContractContext

RELATIVE, ABSOLUTE = 1e-5, 1e-7
"""Of losses and other metrics in float32; the absolute one for those near zero."""
WEIGHT_TOLERANCE = 1e-5
STEPS = 5
SHARES = (((4,), (0, 1, 2, 3, 5)), ((0, 1, 2, 3, 4, 5), ()))
"""Rows of each of two ranks: unequal numbers of tokens and micro-batches; a rank without any row."""


def two_ranks_train_as_one_process_does(context: ContractContext) -> None:
    kinds: tuple[CaseKind, ...] = ("supervised", "ppo", "actor_critic", "moving_reference")
    for kind in kinds if context.plugin.spec.many_devices else ():
        case = _case(context, kind)
        expected = _run(replace(case, shares=((),)))[0]
        for shares in SHARES:
            for rank, found in enumerate(_run(replace(case, shares=shares))):
                _compare(expected, found, f"{kind}, rank {rank} of rows {shares}")


def state_of_two_ranks_goes_on_in_one_process_and_back(context: ContractContext) -> None:
    if not context.plugin.spec.many_devices:
        return
    folder = context.tmp_path
    case = replace(_case(context, "supervised"), shares=SHARES[0])
    straight = _run(replace(case, steps=3))[0]
    _run(replace(case, steps=1, save_to=folder / "two"))
    one = replace(case, shares=((),), first_step=1, steps=1, load_from=folder / "two", save_to=folder / "one")
    _run(one)
    resumed = _run(replace(case, first_step=2, steps=1, load_from=folder / "one"))[0]
    _compare(
        replace(straight, metrics=straight.metrics[2:]), resumed, "three steps on two ranks, one process and two ranks"
    )


CHECKS: tuple[Callable[[ContractContext], None], ...] = (
    two_ranks_train_as_one_process_does,
    state_of_two_ranks_goes_on_in_one_process_and_back,
)


def _case(context: ContractContext, kind: CaseKind) -> RankCase:
    return RankCase(
        kind,
        context.tiny_model(),
        SHARES[0],
        backend=context.plugin.name,
        options=context.options,
        micro_batch_tokens=12,
        steps=STEPS,
    )


def _run(case: RankCase) -> list[RankRecord]:
    from rlkit.testing.ranks import run_on_ranks

    return run_on_ranks(train, case, ranks=len(case.shares))


def _compare(expected: RankRecord, found: RankRecord, what: str) -> None:
    for step, (theirs, ours) in enumerate(zip(expected.metrics, found.metrics, strict=True)):
        assert theirs.keys() == ours.keys(), f"{what}: other metrics, {sorted(theirs.keys() ^ ours.keys())}"
        for name, value in theirs.items():
            allowed = max(RELATIVE * abs(value), ABSOLUTE)
            assert abs(ours[name] - value) <= allowed, f"{what}: {name} in step {step} is {ours[name]}, alone {value}"
    assert expected.weights.keys() == found.weights.keys(), f"{what}: other names of exported weights"
    for name, weight in expected.weights.items():
        error: Any = (weight - found.weights[name]).abs().max()
        assert float(error) <= WEIGHT_TOLERANCE, f"{what}: {name} is off by {float(error):.2g}"
