from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rlkit.models.packed import LENGTH_RATIO, PackedLayout, packed_attention, packed_forward, use_packed_attention

LENGTHS = [5, 1, 9, 2, 8, 5]
FAMILIES = ("qwen2", "qwen3", "llama")


def rows_of(lengths: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(0, 40, (length,), generator=generator) for length in lengths]


def row_by_row(model: Any, rows: list[Tensor]) -> Tensor:
    """Last hidden states [T, hidden] of the rows, each in a forward pass of its own."""
    return torch.cat([model.model(input_ids=row[None], use_cache=False).last_hidden_state[0] for row in rows])


class TestForward:
    @pytest.mark.parametrize("bucketed", [False, True])
    @pytest.mark.parametrize("model_type", FAMILIES)
    def test_hidden_states_equal_those_of_each_row_alone(self, reference_model, model_type, bucketed):
        _, model = reference_model(model_type)
        rows = rows_of(LENGTHS)
        with torch.no_grad():
            expected = row_by_row(model, rows)
            use_packed_attention(model)
            layout = PackedLayout.of(LENGTHS, "cpu", bucketed=bucketed)
            packed = packed_forward(model.model, torch.cat(rows), layout)
        torch.testing.assert_close(packed, expected, atol=2e-5, rtol=0)

    @pytest.mark.parametrize("bucketed", [False, True])
    def test_a_window_shorter_than_a_row_is_kept(self, reference_model, bucketed):
        window = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 0}
        _, model = reference_model("qwen2", **window)
        rows = rows_of(LENGTHS)
        with torch.no_grad():
            expected = row_by_row(model, rows)
            use_packed_attention(model)
            layout = PackedLayout.of(LENGTHS, "cpu", bucketed=bucketed)
            packed = packed_forward(model.model, torch.cat(rows), layout)
            for layer in model.model.layers:
                assert layer.self_attn.sliding_window == 3
                layer.self_attn.sliding_window = None
            without = packed_forward(model.model, torch.cat(rows), layout)
        torch.testing.assert_close(packed, expected, atol=2e-5, rtol=0)
        assert float((without - expected).abs().max()) > 1e-3

    @pytest.mark.parametrize("bucketed", [False, True])
    @pytest.mark.parametrize("model_type", FAMILIES)
    def test_gradients_equal_those_of_each_row_alone(self, reference_model, model_type, bucketed):
        _, model = reference_model(model_type)
        rows = rows_of(LENGTHS)
        gradients = []
        for packed in (False, True):
            model.zero_grad()
            if packed:
                use_packed_attention(model)
                layout = PackedLayout.of(LENGTHS, "cpu", bucketed=bucketed)
                hidden = packed_forward(model.model, torch.cat(rows), layout)
            else:
                hidden = row_by_row(model, rows)
            hidden.square().mean().backward()
            gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        assert gradients[0].keys() == gradients[1].keys()
        for name, expected in gradients[0].items():
            torch.testing.assert_close(gradients[1][name], expected, atol=1e-5, rtol=1e-3, msg=name)

    def test_a_row_cannot_see_another(self, reference_model):
        _, model = reference_model("qwen3")
        use_packed_attention(model)
        rows = rows_of(LENGTHS)
        layout = PackedLayout.of(LENGTHS, "cpu")
        changed = [*rows]
        changed[2] = (rows[2] + 1) % 40
        with torch.no_grad():
            before = packed_forward(model.model, torch.cat(rows), layout).split(LENGTHS)
            after = packed_forward(model.model, torch.cat(changed), layout).split(LENGTHS)
        assert [torch.equal(old, new) for old, new in zip(before, after, strict=True)] == [
            True,
            True,
            False,
            True,
            True,
            True,
        ]


class TestContinuations:
    """Answers that go on from one prompt: segments 1 and 3 from 0, segment 2 is on its own."""

    LENGTHS, CONTINUES = [5, 3, 4, 1], [-1, 0, -1, 0]

    @pytest.mark.parametrize("window", [None, 3])
    @pytest.mark.parametrize("model_type", FAMILIES)
    def test_hidden_states_and_gradients_equal_those_of_whole_rows(self, reference_model, model_type, window):
        _, model = reference_model(model_type)
        segments = rows_of(self.LENGTHS)
        whole = [torch.cat((segments[0], segments[1])), torch.cat((segments[0], segments[3])), segments[2]]
        for layer in model.model.layers:
            layer.self_attn.sliding_window = window
        use_packed_attention(model)

        apart = packed_forward(model.model, torch.cat(whole), PackedLayout.of([len(row) for row in whole], "cpu"))
        first, second, own = apart.split([len(row) for row in whole])
        expected = torch.cat((first, own, second[5:]))
        layout = PackedLayout.of(self.LENGTHS, "cpu", continues=self.CONTINUES)
        shared = packed_forward(model.model, torch.cat(segments), layout)
        torch.testing.assert_close(shared, expected, atol=2e-5, rtol=0)

        weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
        parameters = dict(model.model.named_parameters())
        gradients = [
            torch.autograd.grad((hidden * weights).sum(), list(parameters.values())) for hidden in (expected, shared)
        ]
        for name, ours, theirs in zip(parameters, *gradients, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3, msg=name)

    def test_positions_go_on_from_the_end_of_the_prompt(self):
        layout = PackedLayout.of(self.LENGTHS, "cpu", continues=self.CONTINUES)
        assert layout.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 5]]


class TestAttention:
    def test_scaling_and_shared_key_heads_follow_the_formula(self):
        generator = torch.Generator().manual_seed(0)
        lengths, heads, kv_heads, width = [3, 2], 4, 2, 6
        query = torch.randn(1, heads, 5, width, generator=generator)
        key, value = (torch.randn(1, kv_heads, 5, width, generator=generator) for _ in range(2))
        out, _ = packed_attention(
            nn.Identity(), query, key, value, None, scaling=0.3, packed_layout=PackedLayout.of(lengths, "cpu")
        )
        assert out.shape == (1, 5, heads, width)
        start = 0
        for length in lengths:
            part = slice(start, start + length)
            for head in range(heads):
                shared = head // (heads // kv_heads)
                scores = 0.3 * query[0, head, part] @ key[0, shared, part].T
                scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
                expected = scores.softmax(dim=-1) @ value[0, shared, part]
                torch.testing.assert_close(out[0, part, head], expected)
            start += length

    def test_without_a_layout_it_says_how_to_call_it(self, reference_model):
        _, model = reference_model("qwen3")
        use_packed_attention(model)
        with pytest.raises(ValueError, match="call the model through `packed_forward`"):
            model(torch.zeros(1, 3, dtype=torch.int64))


class TestLayout:
    def test_positions_start_over_with_each_row(self):
        assert PackedLayout.of([3, 1, 2], "cpu").position_ids.tolist() == [[0, 1, 2, 0, 0, 1]]

    def test_rows_of_equal_length_need_neither_padding_nor_reordering(self):
        layout = PackedLayout.of([4, 4, 4], "cpu", bucketed=True)
        assert layout.buckets is not None
        (bucket,) = layout.buckets
        assert bucket.valid is None
        assert layout.order is None
        assert bucket.gather.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]

    def test_a_shorter_row_is_padded_with_its_own_last_token(self):
        buckets = PackedLayout.of([4, 3], "cpu", bucketed=True).buckets
        assert buckets is not None
        (bucket,) = buckets
        assert bucket.gather.tolist() == [[0, 1, 2, 3], [4, 5, 6, 6]]
        assert bucket.valid is not None
        assert bucket.valid.tolist() == [True] * 7 + [False]

    @given(st.lists(st.integers(1, 50), min_size=1, max_size=20))
    def test_buckets_hold_every_token_once_and_waste_little(self, lengths):
        layout = PackedLayout.of(lengths, "cpu", bucketed=True)
        assert layout.buckets is not None
        kept = [
            bucket.gather.flatten() if bucket.valid is None else bucket.gather.flatten()[bucket.valid]
            for bucket in layout.buckets
        ]
        tokens = torch.cat(kept)
        if layout.order is not None:
            tokens = tokens[layout.order]
        assert tokens.tolist() == list(range(sum(lengths)))
        for bucket in layout.buckets:
            rows = bucket.gather.shape[0] * bucket.gather.shape[1]
            used = rows if bucket.valid is None else int(bucket.valid.sum())
            assert used >= LENGTH_RATIO * rows
