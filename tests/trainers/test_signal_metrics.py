from __future__ import annotations

import math

import pytest
import torch

from rlkit.trainers.signal_metrics import signal_metrics

MASK = torch.tensor([[True, True], [True, False]])
PADDED = math.nan


def test_every_part_of_the_signal_by_hand_and_padding_never_matters():
    metrics = signal_metrics(
        token_rewards=torch.tensor([[-0.5, 2.0], [0.5, PADDED]]),
        advantages=torch.tensor([[1.0, 2.0], [6.0, PADDED]]),
        returns=torch.tensor([[0.0, 0.0], [3.0, PADDED]]),
        values=torch.tensor([[1.0, 1.0], [1.0, PADDED]]),
        mask=MASK,
    )
    assert metrics == pytest.approx(
        {
            **{"reward/total_mean": 1.0, "reward/total_std": 0.5, "reward/total_min": 0.5, "reward/total_max": 1.5},
            **{"advantage/mean": 3.0, "advantage/std": math.sqrt(14 / 3), "advantage/min": 1.0, "advantage/max": 6.0},
            **{"return/mean": 1.0, "return/std": math.sqrt(2), "return/min": 0.0, "return/max": 3.0},
            **{"value/mean": 1.0, "value/std": 0.0, "value/min": 1.0, "value/max": 1.0},
        }
    )


def test_without_critic_there_are_neither_values_nor_returns_and_nothing_sampled_is_zero():
    empty = signal_metrics(torch.zeros(1, 2), torch.zeros(1, 2), None, None, torch.zeros(1, 2, dtype=torch.bool))
    assert set(empty.values()) == {0.0}
    assert {name.partition("/")[0] for name in empty} == {"reward", "advantage"}
