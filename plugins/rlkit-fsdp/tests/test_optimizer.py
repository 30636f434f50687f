from __future__ import annotations

import copy
import math

import pytest
import torch
from rlkit_fsdp.optimizer import Optimizer
from rlkit_fsdp.ranks import Ranks
from rlkit_fsdp.saving import write_state
from torch import nn

from rlkit.errors import CheckpointError

ALONE = Ranks(0, 1, "cpu")


@pytest.fixture
def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def backward(module: nn.Module, scale: float = 1.0) -> None:
    inputs = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.1, -1.0]])
    (module(inputs).square().sum() * scale).backward()


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def same(left, right) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


class TestLearningRate:
    def test_warm_up_ends_at_the_full_rate(self, settings):
        chosen = settings(lr=1.0, warmup_steps=4)
        assert [chosen.learning_rate(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]

    def test_without_warm_up_the_first_step_has_the_full_rate(self, settings):
        for schedule in ("constant", "linear", "cosine"):
            assert settings(lr=2.0, schedule=schedule).learning_rate(0) == 2.0

    def test_linear_falls_in_equal_steps_to_its_floor(self, settings):
        chosen = settings(lr=1.0, schedule="linear", warmup_steps=2, total_steps=6, min_lr_ratio=0.2)
        rates = [chosen.learning_rate(step) for step in range(2, 7)]
        assert rates == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])

    def test_cosine_is_half_way_down_in_the_middle(self, settings):
        chosen = settings(lr=1.0, schedule="cosine", total_steps=8, min_lr_ratio=0.1)
        assert chosen.learning_rate(4) == pytest.approx(0.55)
        assert chosen.learning_rate(2) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
        assert chosen.learning_rate(8) == pytest.approx(0.1)

    @pytest.mark.parametrize("schedule", ["linear", "cosine"])
    def test_steps_beyond_the_end_keep_the_floor(self, settings, schedule):
        chosen = settings(lr=1.0, schedule=schedule, total_steps=4, min_lr_ratio=0.3)
        assert chosen.learning_rate(100) == pytest.approx(0.3)

    def test_a_warm_up_as_long_as_the_run_never_divides_by_zero(self, settings):
        chosen = settings(lr=1.0, schedule="cosine", warmup_steps=5, total_steps=5)
        assert [chosen.learning_rate(step) for step in (4, 5)] == [1.0, 1.0]


class TestStep:
    def test_it_is_adamw_with_the_schedule(self, module, settings):
        chosen = settings(lr=0.01, weight_decay=0.1, schedule="linear", total_steps=3)
        theirs = copy.deepcopy(module)
        optimizer = Optimizer(module, chosen)
        decayed = [parameter for parameter in theirs.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in theirs.parameters() if parameter.ndim <= 1]
        reference = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], betas=(0.9, 0.99)
        )
        for rate in (0.01, 0.01 * 2 / 3, 0.01 / 3):
            backward(module)
            assert optimizer.step()["lr"] == pytest.approx(rate)
            backward(theirs)
            for group in reference.param_groups:
                group["lr"] = rate
            reference.step()
            reference.zero_grad()
        for ours, expected in zip(module.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(ours, expected)

    def test_biases_do_not_decay(self, module, settings):
        # No gradient anywhere: what moves is decay alone.
        optimizer = Optimizer(module, settings(lr=0.1, weight_decay=0.5))
        before = weights(module)
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        for old, new in zip(before, weights(module), strict=True):
            torch.testing.assert_close(new, old * 0.95 if old.ndim > 1 else old)

    def test_the_norm_is_reported_before_clipping(self, module, settings):
        backward(module)
        expected = math.sqrt(sum(float(parameter.grad.square().sum()) for parameter in module.parameters()))
        assert Optimizer(module, settings(max_grad_norm=1e-3)).step()["grad_norm"] == pytest.approx(expected)

    def test_clipping_bounds_the_gradient_that_is_used(self, settings):
        # With a huge eps AdamW is plain gradient descent divided by eps.
        module = nn.Linear(1, 1, bias=False)
        optimizer = Optimizer(module, settings(lr=1.0, eps=1e6, max_grad_norm=2.0, betas=(0.0, 0.0)))
        before = module.weight.item()
        module.weight.grad = torch.tensor([[1000.0]])
        optimizer.step()
        assert (before - module.weight.item()) * 1e6 == pytest.approx(2.0, rel=0.05)

    def test_gradients_are_gone_after_a_step(self, module, settings):
        optimizer = Optimizer(module, settings())
        backward(module)
        optimizer.step()
        assert all(parameter.grad is None for parameter in module.parameters())


class TestBrokenGradients:
    @pytest.mark.parametrize("scale", [float("nan"), float("inf"), 1e38])
    def test_nothing_moves_and_the_step_is_counted(self, module, settings, scale):
        optimizer = Optimizer(module, settings(weight_decay=0.1))
        before = weights(module)
        backward(module, scale)
        for parameter in module.parameters():
            parameter.grad *= 1e10  # 1e38 is finite until here
        result = optimizer.step()
        assert result["skipped_steps"] == 1
        assert same(weights(module), before)

    def test_the_schedule_goes_on(self, module, settings):
        optimizer = Optimizer(module, settings(lr=1.0, schedule="linear", total_steps=4))
        backward(module, float("nan"))
        optimizer.step()
        backward(module)
        result = optimizer.step()
        assert result["lr"] == pytest.approx(0.75)
        assert result["skipped_steps"] == 1

    def test_the_next_step_is_as_if_the_broken_one_had_not_been(self, module, settings):
        other = copy.deepcopy(module)
        with_break, without = Optimizer(module, settings()), Optimizer(other, settings())
        backward(module, float("nan"))
        with_break.step()
        for trained, optimizer in ((module, with_break), (other, without)):
            backward(trained)
            optimizer.step()
        assert same(weights(module), weights(other))


class TestEmptyMiniBatch:
    """No token to learn from: gradients that are zero or absent."""

    def test_neither_decay_nor_old_moments_move_the_weights(self, module, settings):
        optimizer = Optimizer(module, settings(weight_decay=0.5))
        backward(module)
        optimizer.step()
        before, moments = weights(module), copy.deepcopy(optimizer._adamw.state_dict()["state"])
        backward(module, 0.0)
        result = optimizer.step(empty=True)
        assert same(weights(module), before)
        for number, state in optimizer._adamw.state_dict()["state"].items():
            assert same(state.values(), moments[number].values())
        assert (result["skipped_steps"], result["grad_norm"]) == (1, 0)

    def test_the_schedule_goes_on(self, module, settings):
        optimizer = Optimizer(module, settings(lr=1.0, schedule="linear", total_steps=4))
        optimizer.step(empty=True)
        backward(module)
        assert optimizer.step()["lr"] == pytest.approx(0.75)

    def test_its_gradients_are_gone(self, module, settings):
        backward(module, 0.0)
        Optimizer(module, settings()).step(empty=True)
        assert all(parameter.grad is None for parameter in module.parameters())


class TestState:
    def run(self, module: nn.Module, optimizer: Optimizer, steps: int) -> None:
        for _ in range(steps):
            backward(module)
            optimizer.step()

    def test_a_restored_optimizer_goes_on_with_the_same_bits(self, module, settings, tmp_path):
        chosen = settings(schedule="cosine", warmup_steps=1)
        optimizer = Optimizer(module, chosen)
        self.run(module, optimizer, 3)
        write_state(tmp_path, optimizer.state(), ALONE)
        other = copy.deepcopy(module)
        restored = Optimizer(other, chosen)
        restored.load(tmp_path)
        self.run(module, optimizer, 2)
        self.run(other, restored, 2)
        assert same(weights(module), weights(other))
        assert (restored.steps_done, restored.steps_skipped) == (5, 0)

    def test_skipped_steps_are_remembered(self, module, settings, tmp_path):
        optimizer = Optimizer(module, settings())
        backward(module, float("nan"))
        optimizer.step()
        write_state(tmp_path, optimizer.state(), ALONE)
        restored = Optimizer(module, settings())
        restored.load(tmp_path)
        assert (restored.steps_done, restored.steps_skipped) == (1, 1)

    def test_an_optimizer_that_never_stepped_can_be_saved(self, module, settings, tmp_path):
        write_state(tmp_path, Optimizer(module, settings()).state(), ALONE)
        restored = Optimizer(module, settings())
        restored.load(tmp_path)
        assert restored.steps_done == 0

    def test_state_of_another_model_is_refused(self, module, settings, tmp_path):
        optimizer = Optimizer(module, settings())
        self.run(module, optimizer, 1)
        write_state(tmp_path, optimizer.state(), ALONE)
        with pytest.raises(CheckpointError, match="parameters this model lacks: 1"):
            Optimizer(nn.Sequential(nn.Linear(3, 4)), settings()).load(tmp_path)

    def test_a_frozen_parameter_stays_as_it_is(self, module, settings):
        module[0].requires_grad_(False)
        before = weights(module[0])
        self.run(module, Optimizer(module, settings(weight_decay=0.5)), 2)
        assert same(weights(module[0]), before)
