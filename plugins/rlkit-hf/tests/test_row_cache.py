from __future__ import annotations

import torch
from rlkit_hf.row_cache import RowCache, _attend, _attend_on_cpu, roomy


def make_cache(lengths: list[int]) -> RowCache:
    longest = max(lengths)
    keys = [torch.randn(len(lengths), 2, longest, 4) for _ in range(2)]
    values = [torch.randn(len(lengths), 2, longest, 6) for _ in range(2)]
    return RowCache(keys, values, torch.tensor(lengths), longest)


def row(cache: RowCache, layer: int, number: int) -> torch.Tensor:
    return cache.layers[layer].keys[number, :, : int(cache.lengths[number])]


def test_a_step_writes_each_row_at_its_own_end() -> None:
    cache = make_cache([3, 5, 1])
    before = [row(cache, 1, number).clone() for number in range(3)]
    mask = cache.begin_step(torch.float32)
    new_keys, new_values = torch.randn(3, 2, 1, 4), torch.randn(3, 2, 1, 6)
    keys, values = cache.update(new_keys, new_values, 1)
    assert keys.shape == (3, 2, 6, 4) and values.shape == (3, 2, 6, 6)
    assert (mask[:, 0, 0] == 0).sum(1).tolist() == [4, 6, 2]
    for number, length in enumerate((3, 5, 1)):
        assert torch.equal(keys[number, :, :length], before[number])
        assert torch.equal(keys[number, :, length], new_keys[number, :, 0])


def test_free_columns_are_zero_so_that_masked_garbage_cannot_spread() -> None:
    cache = make_cache([2, 2])
    for layer in cache.layers:
        layer.values[:] = 1.0
    cache.begin_step(torch.float32)
    assert cache.layers[0].values.shape[2] == roomy(2)
    assert not cache.layers[0].values[:, :, 2:].any()


def test_selected_and_appended_rows_keep_their_content() -> None:
    cache, more = make_cache([3, 5, 1]), make_cache([7, 2])
    kept, added = row(cache, 0, 2).clone(), row(more, 0, 0).clone()
    cache.select(torch.tensor([2, 0]))
    assert (cache.longest, cache.lengths.tolist()) == (3, [1, 3])
    cache.append(more)
    assert cache.lengths.tolist() == [1, 3, 7, 2]
    assert torch.equal(row(cache, 0, 0), kept)
    assert torch.equal(row(cache, 0, 2), added)
    cache.begin_step(torch.float32)
    assert cache.columns == 8


def test_both_ways_to_attend_agree_with_repeated_key_value_heads() -> None:
    query, key, value = torch.randn(3, 2, 4, 8), torch.randn(3, 2, 5, 8), torch.randn(3, 2, 5, 8)
    mask = torch.zeros(3, 1, 1, 5)
    mask[0, ..., 2:] = float("-inf")
    expected = torch.nn.functional.scaled_dot_product_attention(
        query.reshape(3, 8, 1, 8),
        key.repeat_interleave(4, 1),
        value.repeat_interleave(4, 1),
        attn_mask=mask.expand(3, 8, 1, 5),
        scale=0.3,
    ).reshape(3, 2, 4, 8)
    for attend in (_attend, _attend_on_cpu):
        assert torch.allclose(attend(query, key, value, mask, 0.3), expected, atol=1e-6)
