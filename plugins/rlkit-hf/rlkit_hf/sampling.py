"""Choosing tokens from logits, with randomness that depends on nothing but its labels.

Each uniform number is a hash of (seed, row of the data set, sample, position), and the token is found by inverting the
cumulative distribution. How rows are batched, in which order they finish, and whether a run was resumed cannot change it.
Every operation works on each row alone, so rows with other settings beside it cannot change it either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlkit.types import SamplingParams, TopLogProbs

MAX_CHUNK_ELEMENTS = 16_777_216  # rows x vocabulary handled at once: bounds the float64 temporaries at 128 MiB

BLOCK = 64  # tokens summed together before the cumulative sum: most of the vocabulary is never walked through

_UNIFORM_BITS = 48  # fewer than float64's 53, so that uniform * total stays below total


def _signed(value: int) -> int:
    """The 64-bit two's complement number with the same bits as `value`."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    return value - (1 << 64) if value >> 63 else value


_GAMMA = _signed(0x9E37_79B9_7F4A_7C15)
_MIX_1 = _signed(0xBF58_476D_1CE4_E5B9)
_MIX_2 = _signed(0x94D0_49BB_1331_11EB)


def _shift_right(values: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's own keeps the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _mix(values: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2714064.2660195) on int64, wrapping."""
    values = (values ^ _shift_right(values, 30)) * _MIX_1
    values = (values ^ _shift_right(values, 27)) * _MIX_2
    return values ^ _shift_right(values, 31)


def answer_keys(seed: int, row_ids: Sequence[int], samples: Sequence[int]) -> Tensor:
    """[B] int64: one key for each answer, from the seed, the prompt's row in its data set, and the sample's number."""
    keys = torch.full((len(row_ids),), _signed(seed), dtype=torch.int64)
    for label in (row_ids, samples):
        keys = _mix(keys + _GAMMA) ^ _mix(torch.tensor([_signed(value) for value in label], dtype=torch.int64) + _GAMMA)
    return _mix(keys + _GAMMA)


def uniforms(keys: Tensor, positions: Tensor) -> Tensor:
    """[B] float64 in (0, 1): number `positions[b]` of the stream that belongs to `keys[b]`."""
    bits = _shift_right(_mix(keys + (positions + 1) * _GAMMA), 64 - _UNIFORM_BITS)
    return (bits.double() + 0.5) * 2.0**-_UNIFORM_BITS


@dataclass(frozen=True, eq=False)
class RowSettings:
    """The sampling settings of B rows, one request's beside another's.

    temperature, top_k, top_p, min_p, penalty  [B, 1] on the device; greedy rows have temperature 1, no top-k is V
    greedy, drawn, truncated, penalised        row numbers, ascending; truncated rows are some of the drawn ones
    scaled                                     whether any temperature differs from 1
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    penalty: Tensor
    greedy: Tensor
    drawn: Tensor
    truncated: Tensor
    penalised: Tensor
    scaled: bool

    @staticmethod
    def of(params: Sequence[SamplingParams], *, vocabulary: int, device: torch.device) -> RowSettings:
        def column(values: list[float], dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values, dtype=dtype).to(device)[:, None]

        def rows(chosen: list[bool]) -> Tensor:
            return torch.tensor([row for row, yes in enumerate(chosen) if yes], dtype=torch.int64).to(device)

        temperatures = [p.temperature or 1.0 for p in params]
        is_greedy = [p.temperature == 0 for p in params]
        return RowSettings(
            temperature=column(temperatures),
            top_k=column([min(p.top_k or vocabulary, vocabulary) for p in params], torch.int64),
            top_p=column([p.top_p for p in params]),
            min_p=column([p.min_p for p in params]),
            penalty=column([p.repetition_penalty for p in params]),
            greedy=rows(is_greedy),
            drawn=rows([not yes for yes in is_greedy]),
            truncated=rows([p.temperature != 0 and _truncates(p, vocabulary) for p in params]),
            penalised=rows([p.repetition_penalty != 1 for p in params]),
            scaled=any(value != 1 for value in temperatures),
        )

    def slice(self, start: int, end: int) -> RowSettings:
        """The settings of rows `start` to `end`."""

        def rows(numbers: Tensor) -> Tensor:
            return numbers[(numbers >= start) & (numbers < end)] - start

        return RowSettings(
            temperature=self.temperature[start:end],
            top_k=self.top_k[start:end],
            top_p=self.top_p[start:end],
            min_p=self.min_p[start:end],
            penalty=self.penalty[start:end],
            greedy=rows(self.greedy),
            drawn=rows(self.drawn),
            truncated=rows(self.truncated),
            penalised=rows(self.penalised),
            scaled=self.scaled,
        )


def _truncates(params: SamplingParams, vocabulary: int) -> bool:
    return 0 < params.top_k < vocabulary or params.top_p < 1 or params.min_p > 0


@dataclass(frozen=True, eq=False)
class Choice:
    """tokens [B] int64, log_probs [B] float32 (see `SamplingParams`), and the alternatives of the rows that want them."""

    tokens: Tensor
    log_probs: Tensor
    alternatives: Mapping[int, TopLogProbs]


def choose_tokens(
    logits: Tensor, settings: RowSettings, uniform: Tensor, seen: Tensor | None, alternatives: Mapping[int, int]
) -> Choice:
    """One token for each row of `logits` [B, V].

    uniform [B] float64; unused in greedy rows. seen [len(settings.penalised), V] bool: tokens of prompt and answer so
    far of the rows with a repetition penalty; None when there are none. alternatives: row -> how many to name.
    """
    rows = max(1, MAX_CHUNK_ELEMENTS // logits.shape[1])
    if logits.shape[0] <= rows:
        return _choose(logits.float(), settings, uniform, seen, alternatives)
    parts: list[Choice] = []
    taken = 0
    for start in range(0, logits.shape[0], rows):
        end = start + rows
        some = settings.slice(start, end)
        count = some.penalised.numel()
        some_seen = None if seen is None else seen[taken : taken + count]
        wanted = {row - start: number for row, number in alternatives.items() if start <= row < end}
        part = _choose(logits[start:end].float(), some, uniform[start:end], some_seen, wanted)
        parts.append(replace(part, alternatives={row + start: found for row, found in part.alternatives.items()}))
        taken += count
    return Choice(
        torch.cat([part.tokens for part in parts]),
        torch.cat([part.log_probs for part in parts]),
        {row: found for part in parts for row, found in part.alternatives.items()},
    )


def _choose(
    logits: Tensor, settings: RowSettings, uniform: Tensor, seen: Tensor | None, alternatives: Mapping[int, int]
) -> Choice:
    scaled = logits / settings.temperature if settings.scaled else logits
    top = scaled.amax(dim=-1, keepdim=True)
    weights = (scaled - top).exp_()
    log_total = top + weights.sum(dim=-1, keepdim=True).log_()
    judged = scaled
    if settings.penalised.numel():
        assert seen is not None
        rows = settings.penalised
        penalised = penalise_repetition(logits[rows], seen, settings.penalty[rows]) / settings.temperature[rows]
        judged = scaled.index_copy(0, rows, penalised)
        weights.index_copy_(0, rows, torch.softmax(penalised, dim=-1))
    if settings.truncated.numel():
        rows = settings.truncated
        kept = keep_likely(judged[rows], settings.top_k[rows], settings.top_p[rows], settings.min_p[rows])
        weights.index_copy_(0, rows, torch.softmax(kept, dim=-1))
    tokens = _pick(judged, weights, settings, uniform)
    log_probs = (scaled.gather(1, tokens[:, None]) - log_total)[:, 0]
    return Choice(tokens, log_probs, _likeliest(scaled, log_total, alternatives))


def _likeliest(scaled: Tensor, log_total: Tensor, counts: Mapping[int, int]) -> dict[int, TopLogProbs]:
    """The likeliest tokens of the rows in `counts`, with their log-probs `scaled - log_total`."""
    if not counts:
        return {}
    rows = torch.tensor(list(counts), dtype=torch.int64, device=scaled.device)
    found = scaled[rows].topk(min(max(counts.values()), scaled.shape[1]), dim=-1)
    tokens, values = found.indices.tolist(), (found.values - log_total[rows]).tolist()
    pairs = (tuple(zip(ids, log_probs, strict=True)) for ids, log_probs in zip(tokens, values, strict=True))
    return {row: named[:count] for (row, count), named in zip(counts.items(), pairs, strict=True)}


def _pick(judged: Tensor, weights: Tensor, settings: RowSettings, uniform: Tensor) -> Tensor:
    if not settings.greedy.numel():
        return invert_distribution(weights, uniform)
    if not settings.drawn.numel():
        return judged.argmax(dim=-1)
    tokens = torch.empty(judged.shape[0], dtype=torch.int64, device=judged.device)
    tokens[settings.greedy] = judged[settings.greedy].argmax(dim=-1)
    tokens[settings.drawn] = invert_distribution(weights[settings.drawn], uniform[settings.drawn])
    return tokens


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """Keskar et al. 2019, arXiv:1909.05858, section 4.1, with transformers' rule for negative logits. penalty [B, 1]."""
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def keep_likely(scaled: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor) -> Tensor:
    """`scaled` [B, V] with -inf on the tokens that top-k, then top-p, then min-p ([B, 1] each) drop.

    Each works on what the one before left over, as in transformers; the likeliest token always stays.
    """
    vocabulary = scaled.shape[1]
    some = (top_k < vocabulary).nonzero()[:, 0]
    if some.numel():
        ordered = scaled[some].topk(int(top_k[some].max()), dim=-1).values
        smallest = ordered.gather(1, top_k[some] - 1)
        scaled = scaled.index_copy(0, some, scaled[some].masked_fill(scaled[some] < smallest, float("-inf")))
    some = (top_p < 1).nonzero()[:, 0]
    if some.numel():
        scaled = scaled.index_copy(0, some, _keep_nucleus(scaled[some], top_p[some]))
    probabilities = torch.softmax(scaled, dim=-1)
    floor = min_p * probabilities.amax(dim=-1, keepdim=True)
    return scaled.masked_fill(probabilities < floor, float("-inf"))


def _keep_nucleus(scaled: Tensor, top_p: Tensor) -> Tensor:
    ordered, index = scaled.sort(dim=-1, descending=True)
    probabilities = torch.softmax(ordered, dim=-1)
    # A token stays while the mass before it is below top_p, so the first always does.
    dropped = probabilities.cumsum(dim=-1) - probabilities >= top_p
    return scaled.masked_fill(torch.zeros_like(dropped).scatter(1, index, dropped), float("-inf"))


def invert_distribution(weights: Tensor, uniform: Tensor) -> Tensor:
    """[B] int64: the first token at which the cumulative weight [B, V] exceeds `uniform` [B] x the total.

    Weights are non-negative and need no sum of 1. A token of weight 0 is never taken. First the block of tokens is found
    from the blocks' sums, then the token in it.
    """
    rows, vocabulary = weights.shape
    whole = vocabulary // BLOCK
    sums = weights[:, : whole * BLOCK].view(rows, whole, BLOCK).sum(dim=-1)
    if vocabulary > whole * BLOCK:
        sums = torch.cat([sums, weights[:, whole * BLOCK :].sum(dim=-1, keepdim=True)], dim=1)
    cumulative = sums.cumsum(dim=-1, dtype=torch.float64)
    target = uniform[:, None] * cumulative[:, -1:]
    block = torch.searchsorted(cumulative, target, right=True).clamp_(max=sums.shape[1] - 1)  # beyond only for NaN
    before = torch.where(block > 0, cumulative.gather(1, (block - 1).clamp(min=0)), 0.0)
    columns = block * BLOCK + torch.arange(BLOCK, device=weights.device)
    inside = weights.gather(1, columns.clamp(max=vocabulary - 1)).masked_fill(columns >= vocabulary, 0.0)
    cumulative = inside.cumsum(dim=-1, dtype=torch.float64)
    # The block's own sum was rounded elsewhere: stay below it, or no token would exceed the target.
    target = torch.minimum(target - before, cumulative[:, -1:] * (1 - 2.0**-50))
    tokens = columns.gather(1, torch.searchsorted(cumulative, target, right=True).clamp_(max=BLOCK - 1))
    return tokens[:, 0].clamp(max=vocabulary - 1)
