"""The suites of estimators and losses pass for all that are installed, and find the fault that each check is there for."""

from __future__ import annotations

import pytest
import torch

from rlkit.algos.advantages.grpo import compute_grpo
from rlkit.algos.masked import masked_whiten, row_sums, spread
from rlkit.plugin import PluginKind, PluginSpec
from rlkit.plugin.discovery import plugin_names
from rlkit.plugin.loader import LoadedPlugin, load_plugin
from rlkit.testing import ContractContext, contract_checks

KINDS = (PluginKind.ADVANTAGE_ESTIMATOR, PluginKind.POLICY_LOSS)
CASES = [
    pytest.param(kind, name, check, id=f"{name}-{check.name}")
    for kind in KINDS
    for name in plugin_names(kind)
    for check in contract_checks(kind)
    # A process for each of them: one for all is in test_nothing_heavy_is_imported_to_describe_them.
    if check.name != "the-description-imports-nothing-heavy"
]


@pytest.mark.parametrize(("kind", "name", "check"), CASES)
def test_contract(kind, name, check, tmp_path):
    check(ContractContext(plugin=load_plugin(kind, name), tmp_path=tmp_path))


@pytest.mark.parametrize(("kind", "name"), [(KINDS[0], "gae"), (KINDS[1], "ppo_clip")])
def test_nothing_heavy_is_imported_to_describe_them(kind, name, tmp_path):
    contract_checks(kind)[0](ContractContext(plugin=load_plugin(kind, name), tmp_path=tmp_path))


def run(kind, check_name, target, tmp_path, needs=()):
    spec = PluginSpec(kind=kind, target="mine:target", summary="A test.", needs=needs)
    plugin = LoadedPlugin(kind, "mine.py:target", spec, "(file)", "", target, None)
    check = next(check for check in contract_checks(kind) if check.name == check_name)
    check(ContractContext(plugin=plugin, tmp_path=tmp_path))


def scores(inputs):
    return row_sums(inputs.token_rewards, inputs.mask)


def by_position(inputs):
    """Depends on where a row stands."""
    return spread(scores(inputs) + torch.arange(len(inputs.mask)), inputs.mask)


def by_column(inputs):
    """Counts tool output as time."""
    return torch.arange(inputs.mask.shape[1]).expand(inputs.mask.shape) * spread(scores(inputs), inputs.mask)


def in_place(inputs):
    inputs.token_rewards.add_(1.0)
    return spread(scores(inputs), inputs.mask)


def with_targets(inputs):
    return spread(scores(inputs), inputs.mask), inputs.token_rewards


def infinite(inputs):
    return spread(scores(inputs) / 0.0, inputs.mask)


def deaf_to_the_mask(inputs):
    """Sums over padding too."""
    return spread(inputs.token_rewards.sum(dim=1), inputs.mask)


@pytest.mark.parametrize(
    ("check", "target"),
    [
        ("gives-one-finite-number-for-each-token", infinite),
        ("gives-targets-when-it-reads-a-critic", with_targets),
        ("padding-is-of-no-account", deaf_to_the_mask),
        ("the-order-of-rows-is-of-no-account", by_position),
        ("tool-output-is-stepped-over", by_column),
        ("leaves-its-inputs-alone-and-says-the-same-twice", in_place),
    ],
)
def test_each_check_of_an_estimator_finds_its_fault(check, target, tmp_path):
    with pytest.raises(AssertionError):
        run(KINDS[0], check, target, tmp_path)

    def sound(inputs):
        return compute_grpo(inputs.token_rewards, inputs.mask, inputs.group_ids)

    run(KINDS[0], check, sound, tmp_path, needs=("groups",))


def ratio(log_probs, old_log_probs):
    return torch.exp((log_probs - old_log_probs).clamp(-20, 20))


def sound(log_probs, old_log_probs, advantages, mask):
    return -advantages * ratio(log_probs, old_log_probs)


@pytest.mark.parametrize(
    ("check", "target"),
    [
        ("gives-one-finite-loss-for-each-token", lambda new, old, a, mask: -a * (new - old) / 0.0),
        ("stays-finite-when-the-policy-has-moved-far", lambda new, old, a, mask: -a * torch.exp(new - old)),
        ("makes-good-answers-likelier-and-bad-ones-less", lambda new, old, a, mask: a * ratio(new, old)),
        ("tokens-that-were-not-sampled-have-no-part-in-it", lambda new, old, a, mask: -a * new * new.shape[1]),
        (
            "the-split-into-micro-batches-is-of-no-account",
            lambda new, old, a, mask: -masked_whiten(a, mask) * ratio(new, old),
        ),
    ],
)
def test_each_check_of_a_loss_finds_its_fault(check, target, tmp_path):
    with pytest.raises(AssertionError):
        run(KINDS[1], check, target, tmp_path)
    run(KINDS[1], check, sound, tmp_path)
