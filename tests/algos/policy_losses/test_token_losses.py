from __future__ import annotations

import pytest
import torch

from rlkit.algos.policy_losses.cispo import CISPO
from rlkit.algos.policy_losses.clip_cov import ClipCov
from rlkit.algos.policy_losses.dppo import DPPOTotalVariation
from rlkit.algos.policy_losses.gmpo import GMPO
from rlkit.algos.policy_losses.gspo import GSPO
from rlkit.algos.policy_losses.ppo_clip import PPOClip


@pytest.mark.parametrize(
    "loss",
    [
        PPOClip(0.2, 0.2, 3.0),
        GSPO(0.2, 0.2),
        GMPO(0.2, 0.2),
        CISPO(0.2, 0.2),
        DPPOTotalVariation(0.05),
        ClipCov(0.2, 0.2, 0.0, 1.0, 5.0),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_a_good_token_is_stopped_above_and_a_bad_one_below(loss):
    log_probs = torch.tensor([[0.4], [0.1]]).log()
    token = loss(
        log_probs, torch.full((2, 1), 0.2).log(), torch.tensor([[1.0], [-1.0]]), torch.ones(2, 1, dtype=torch.bool)
    )
    sides = [token.metrics[f"actor/clip_fraction{side}"].flatten().tolist() for side in ("", "_high", "_low")]
    assert sides == [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
