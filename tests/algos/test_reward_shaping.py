"""Clip, normalisation and overlong penalty by hand, and moments that do not depend on how scores arrive."""

from __future__ import annotations

import json
from dataclasses import asdict
from statistics import fmean, stdev

import pytest
import torch

from rlkit.algos.reward_shaping import Moments, clip_scores, normalise_scores, overlong_penalties, scale_scores

SCORES = torch.tensor([3.0, -1.0, 0.5, 2.0, 2.0, -4.0, 0.0], dtype=torch.float64)


def test_the_penalty_rises_over_the_buffer_and_stays_at_the_limit() -> None:
    lengths = torch.tensor([1, 80, 81, 85, 90, 100, 130])
    penalties = overlong_penalties(lengths, limit=100, buffer=20, penalty=1.0)
    assert penalties.tolist() == pytest.approx([0, 0, -0.05, -0.25, -0.5, -1, -1])
    smaller = overlong_penalties(lengths, limit=100, buffer=20, penalty=0.4)
    torch.testing.assert_close(smaller, 0.4 * penalties)


def test_clipping_touches_only_what_lies_beyond() -> None:
    assert clip_scores(SCORES, -1.0, 2.0).tolist() == [2.0, -1.0, 0.5, 2.0, 2.0, -1.0, 0.0]


def test_moments_are_those_of_all_scores_however_they_are_split() -> None:
    whole = Moments.of(SCORES)
    assert (whole.count, whole.mean) == (7, pytest.approx(fmean(SCORES.tolist())))
    assert whole.std == pytest.approx(stdev(SCORES.tolist()))
    for cut in range(8):
        joined = Moments.of(SCORES[:cut]).joined(Moments.of(SCORES[cut:]))
        assert asdict(joined) == pytest.approx(asdict(whole))


def test_moments_of_scores_far_from_zero_keep_their_digits() -> None:
    moments = Moments()
    for part in (SCORES + 1e9).split(2):
        moments = moments.joined(Moments.of(part))
    assert moments.std == pytest.approx(stdev(SCORES.tolist()), rel=1e-6)


def test_moments_come_back_from_json_to_the_bit() -> None:
    moments = Moments.of(SCORES / 3)
    assert Moments(**json.loads(json.dumps(asdict(moments)))) == moments


def test_normalised_scores_have_mean_0_and_spread_1_and_scaled_ones_keep_their_zero() -> None:
    moments = Moments.of(SCORES)
    normalised = normalise_scores(SCORES, moments.mean, moments.std)
    assert float(normalised.mean()) == pytest.approx(0, abs=1e-9)
    assert float(normalised.std()) == pytest.approx(1, rel=1e-5)
    scaled = scale_scores(SCORES, moments.std)
    assert float(scaled.std()) == pytest.approx(1)
    assert scaled[-1] == 0


def test_scores_that_never_varied_are_not_blown_up() -> None:
    same = torch.full((3,), 0.7, dtype=torch.float64)
    moments = Moments.of(same)
    assert torch.equal(scale_scores(same, moments.std), same)
    assert normalise_scores(same, moments.mean, moments.std).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert Moments.of(same[:1]).std == Moments().std == 0
