"""Normalising and clipping advantages: over the sampled tokens, and over nothing else."""

from __future__ import annotations

import pytest
import torch

from rlkit.algos.advantages.scaling import AdvantageScaling

MASK = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0]], dtype=torch.bool)
ADVANTAGES = torch.tensor([[4.0, -2.0, 0.0, 1.0], [-3.0, 0.0, 0.0, 0.0]])


def test_by_default_nothing_happens() -> None:
    scaled, metrics = AdvantageScaling()(ADVANTAGES, MASK)
    assert torch.equal(scaled, ADVANTAGES)
    assert metrics == {}


def test_normalised_advantages_have_mean_0_and_variance_1_over_the_sampled_tokens() -> None:
    scaled, metrics = AdvantageScaling(normalise=True)(ADVANTAGES + MASK, MASK)
    assert float(scaled[MASK].mean()) == pytest.approx(0, abs=1e-6)
    assert float(scaled[MASK].std()) == pytest.approx(1, rel=1e-5)
    assert not scaled[~MASK].any()
    assert metrics["advantage/mean_before"] == pytest.approx(1)


def test_clipped_advantages_are_bounded_after_normalisation_and_counted() -> None:
    scaled, metrics = AdvantageScaling(clip=2.5)(ADVANTAGES, MASK)
    assert scaled.tolist() == [[2.5, -2.0, 0.0, 1.0], [-2.5, 0.0, 0.0, 0.0]]
    assert metrics["advantage/clipped_fraction"] == pytest.approx(2 / 4)
    both, _ = AdvantageScaling(normalise=True, clip=1.0)(ADVANTAGES, MASK)
    plain, _ = AdvantageScaling(normalise=True)(ADVANTAGES, MASK)
    assert torch.equal(both, plain.clamp(-1, 1))


@pytest.mark.parametrize("scaling", [AdvantageScaling(normalise=True, clip=1.2), AdvantageScaling(clip=1.2)])
def test_tool_tokens_and_padding_of_any_content_change_nothing(scaling: AdvantageScaling) -> None:
    plain, metrics = scaling(ADVANTAGES, MASK)
    dirty = torch.where(MASK, ADVANTAGES, torch.nan)
    wide = torch.cat([dirty[:, :1], torch.full((2, 1), 1e30), dirty[:, 1:], torch.full((2, 3), torch.inf)], dim=1)
    mask = torch.zeros_like(wide, dtype=torch.bool)
    mask[:, [0, 2, 3, 4]] = MASK
    scaled, same = scaling(wide, mask)
    torch.testing.assert_close(scaled[:, [0, 2, 3, 4]], plain)
    assert not scaled[~mask].any()
    assert same == pytest.approx(metrics)
