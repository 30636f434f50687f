"""Linear layers by oneDNN give what torch's own give."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from rlkit_fsdp import linear
from rlkit_fsdp.linear import FastLinear, padding_to_fast_rows, use_fast_linear
from rlkit_fsdp.pass_size import FAST_ROWS
from torch import nn


@pytest.fixture(autouse=True)
def forget_whether_it_works() -> Iterator[None]:
    linear._works.cache_clear()
    yield
    linear._works.cache_clear()


def results(layer, rows, upstream):
    rows = rows.clone().requires_grad_()
    layer.zero_grad()
    out = layer(rows)
    out.backward(upstream)
    return [out.detach(), rows.grad, *(parameter.grad for parameter in layer.parameters() if parameter.requires_grad)]


@pytest.mark.parametrize("rows", [FAST_ROWS, 3 * FAST_ROWS, 10])
@pytest.mark.parametrize("bias", [False, True])
def test_outputs_and_all_gradients_equal_torch_s_own(rows, bias):
    torch.manual_seed(0)
    layer, values, upstream = nn.Linear(24, 40, bias=bias), torch.randn(1, rows, 24), torch.randn(1, rows, 40)
    expected = results(layer, values, upstream)
    use_fast_linear(layer, "cpu")
    assert type(layer) is FastLinear
    for ours, theirs in zip(results(layer, values, upstream), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_frozen_weight_gets_no_gradient_and_passes_one_on():
    layer = nn.Linear(8, 8).requires_grad_(False)
    use_fast_linear(layer, "cpu")
    values = torch.randn(FAST_ROWS, 8, requires_grad=True)
    layer(values).sum().backward()
    assert values.grad is not None and values.grad.any()
    assert layer.weight.grad is None


def test_a_frozen_weight_keeps_no_input_alive():
    layer = nn.Linear(8, 16).requires_grad_(False)
    use_fast_linear(layer, "cpu")
    kept: list[tuple[int, ...]] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tuple(tensor.shape)), lambda _: None):
        layer(torch.randn(FAST_ROWS, 8, requires_grad=True))
    assert kept == [(16, 8)]


def test_under_autocast_it_is_torch_s_own_in_bfloat16():
    layer = nn.Linear(8, 8)
    use_fast_linear(layer, "cpu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(FAST_ROWS, 8)).dtype == torch.bfloat16


def test_where_the_operator_is_missing_nothing_changes(monkeypatch):
    def missing(*_: object) -> torch.Tensor:
        raise AttributeError("no such operator")

    monkeypatch.setattr(linear, "_multiply", missing)
    layer = nn.Linear(8, 8)
    use_fast_linear(layer, "cpu")
    assert type(layer) is nn.Linear
    assert padding_to_fast_rows(100, "cpu") == 0


def test_subclasses_and_other_devices_stay_as_they_are():
    class Special(nn.Linear):
        pass

    special, plain = Special(4, 4), nn.Linear(4, 4)
    use_fast_linear(special, "cpu")
    use_fast_linear(plain, "cuda")
    assert (type(special), type(plain)) == (Special, nn.Linear)


def test_tokens_are_padded_to_few_different_numbers():
    assert [padding_to_fast_rows(tokens, "cpu") for tokens in (10, 64, 65, 128, 1000)] == [0, 0, 63, 0, 24]
    assert padding_to_fast_rows(65, "cuda") == 0
