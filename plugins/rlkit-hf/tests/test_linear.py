from __future__ import annotations

import pytest
import torch
from rlkit_hf.linear import PIECES, OneDNNLinear, padded_size, use_fast_linear
from torch import nn


def layer(*, bias: bool) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(48, 40, bias=bias)).requires_grad_(False)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "rows", [1, PIECES[-1] - 1, *PIECES, PIECES[-1] + 1, PIECES[0] + PIECES[-1] + 3, 3 * PIECES[0]]
)
def test_any_number_of_rows_is_multiplied_as_by_torch(rows: int, bias: bool) -> None:
    fast, plain = layer(bias=bias), layer(bias=bias)
    use_fast_linear(fast)
    assert isinstance(fast[0], OneDNNLinear)
    input = torch.randn(1, rows, 48)
    with torch.inference_mode():
        assert fast(input).shape == (1, rows, 40)
        assert torch.allclose(fast(input), plain(input), atol=1e-5)


def test_parameters_stay_the_same_so_that_new_weights_are_used() -> None:
    fast = layer(bias=True)
    use_fast_linear(fast)
    assert list(fast.state_dict()) == ["0.weight", "0.bias"]
    input = torch.randn(PIECES[0], 48)
    with torch.inference_mode():
        before = fast(input)
        fast[0].weight.mul_(2)
        fast[0].bias.mul_(2)
        assert torch.allclose(fast(input), 2 * before, atol=1e-5)


def test_layers_of_other_types_and_classes_are_left_alone() -> None:
    class Special(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(4, 4).bfloat16(), Special(4, 4))
    use_fast_linear(model)
    assert [type(module) for module in model] == [nn.Linear, Special]


def test_padding_leaves_only_whole_pieces_and_less_than_the_largest() -> None:
    for rows in range(1, 3 * PIECES[0]):
        padded = padded_size(rows)
        assert rows <= padded < rows + PIECES[0]
        assert padded % PIECES[0] in (0, *PIECES)
        assert padded_size(padded) == padded
