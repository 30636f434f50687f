"""KL estimators against the exact divergence."""

from __future__ import annotations

import pytest
import torch

from rlkit.algos.kl import MAX_K3, compute_kl

P, Q = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.4, 0.4, 0.2])


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_unbiased_estimators_have_the_exact_divergence_as_expectation(estimator):
    exact = float((P * (P / Q).log()).sum())
    expectation = float((P * compute_kl(P.log(), Q.log(), estimator)).sum())
    assert expectation == pytest.approx(exact, rel=1e-5)


def test_k2_is_near_the_divergence_for_near_policies():
    near = Q + torch.tensor([0.01, -0.01, 0.0])
    exact = float((near * (near / Q).log()).sum())
    assert float((near * compute_kl(near.log(), Q.log(), "k2")).sum()) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("estimator", ["k2", "k3", "abs"])
def test_these_are_never_negative_and_zero_for_equal_policies(estimator):
    log_probs = torch.randn(100, generator=torch.Generator().manual_seed(0))
    other = torch.randn(100, generator=torch.Generator().manual_seed(1))
    assert float(compute_kl(log_probs, other, estimator).min()) >= 0
    assert not compute_kl(log_probs, log_probs, estimator).any()


def test_k3_of_one_far_token_is_bounded():
    assert float(compute_kl(torch.tensor(-200.0), torch.tensor(0.0), "k3")) == MAX_K3


def log_probs(seed: int) -> torch.Tensor:
    return -torch.rand(4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.1


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "abs"])
def test_gradients_agree_with_finite_differences(estimator):
    reference = log_probs(1)
    assert torch.autograd.gradcheck(
        lambda present: compute_kl(present, reference, estimator), log_probs(0).requires_grad_()
    )


@pytest.mark.parametrize("base", ["k1", "k2", "k3", "abs"])
def test_the_plus_variants_have_their_bases_value_and_the_gradient_of_k2(base):
    present, reference = log_probs(0).requires_grad_(), log_probs(1)
    value = compute_kl(present, reference, f"{base}+")
    torch.testing.assert_close(value, compute_kl(present, reference, base))
    (gradient,) = torch.autograd.grad(value.sum(), present)
    torch.testing.assert_close(gradient, (present - reference).detach())
