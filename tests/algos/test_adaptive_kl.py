"""The KL coefficient follows its target."""

from __future__ import annotations

import pytest

from rlkit.algos.adaptive_kl import adapt_coefficient


@pytest.mark.parametrize(
    ("kl", "expected"),
    [(6.0, 0.1), (6.6, 0.1 * 1.001), (60.0, 0.1 * 1.002), (0.0, 0.1 * 0.998), (-5.0, 0.1 * 0.998)],
)
def test_the_coefficient_by_hand(kl, expected):
    made = adapt_coefficient(0.1, kl, target=6.0, horizon=10_000, answers=100)
    assert made == pytest.approx(expected)
