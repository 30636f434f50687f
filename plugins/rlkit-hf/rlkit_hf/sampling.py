"""Choosing tokens from logits, with randomness that depends on nothing but its labels.

Each uniform number is a hash of (seed, row of the data set, sample, position), and the token is found by inverting the
cumulative distribution. How rows are batched, in which order they finish, and whether a run was resumed cannot change it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlkit.types import SamplingParams

MAX_CHUNK_ELEMENTS = 16_777_216  # rows x vocabulary handled at once: bounds the float64 temporaries at 128 MiB

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


def choose_tokens(
    logits: Tensor, sampling: SamplingParams, uniform: Tensor, seen: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Token [B] int64 and log-prob [B] float32 (see `SamplingParams`) for each row of `logits` [B, V].

    uniform [B] float64; unused when greedy. seen [B, V] bool: tokens of prompt and answer so far, for the repetition
    penalty; None without one.
    """
    rows = max(1, MAX_CHUNK_ELEMENTS // logits.shape[1])
    if logits.shape[0] <= rows:
        return _choose(logits.float(), sampling, uniform, seen)
    parts = [
        _choose(
            logits[i : i + rows].float(), sampling, uniform[i : i + rows], None if seen is None else seen[i : i + rows]
        )
        for i in range(0, logits.shape[0], rows)
    ]
    return torch.cat([tokens for tokens, _ in parts]), torch.cat([log_probs for _, log_probs in parts])


def _choose(logits: Tensor, sampling: SamplingParams, uniform: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
    greedy = sampling.temperature == 0
    temperature = 1.0 if greedy or sampling.temperature == 1 else sampling.temperature
    scaled = logits if temperature == 1.0 else logits / temperature
    log_probs = torch.log_softmax(scaled, dim=-1)
    if seen is not None:
        scaled = penalise_repetition(logits, seen, sampling.repetition_penalty) / temperature
    if greedy:
        tokens = scaled.argmax(dim=-1)
    else:
        plain = seen is None and sampling.top_k == 0 and sampling.top_p >= 1 and sampling.min_p == 0
        kept = log_probs if plain else keep_likely(scaled, sampling)
        tokens = invert_distribution(kept.exp() if plain else torch.softmax(kept, dim=-1), uniform)
    return tokens, log_probs.gather(1, tokens[:, None])[:, 0]


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Keskar et al. 2019, arXiv:1909.05858, section 4.1, with transformers' rule for negative logits."""
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def keep_likely(scaled: Tensor, sampling: SamplingParams) -> Tensor:
    """`scaled` [B, V] with -inf on the tokens that top-k, then top-p, then min-p drop; the likeliest always stays.

    Each works on what the one before left over, as in transformers.
    """
    if 0 < sampling.top_k < scaled.shape[1]:
        smallest = scaled.topk(sampling.top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < smallest, float("-inf"))
    if sampling.top_p < 1:
        ordered, index = scaled.sort(dim=-1, descending=True)
        probabilities = torch.softmax(ordered, dim=-1)
        # A token stays while the mass before it is below top_p, so the first always does.
        dropped = probabilities.cumsum(dim=-1) - probabilities >= sampling.top_p
        scaled = scaled.masked_fill(torch.zeros_like(dropped).scatter(1, index, dropped), float("-inf"))
    if sampling.min_p > 0:
        probabilities = torch.softmax(scaled, dim=-1)
        floor = sampling.min_p * probabilities.amax(dim=-1, keepdim=True)
        scaled = scaled.masked_fill(probabilities < floor, float("-inf"))
    return scaled


def invert_distribution(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """[B] int64: the first token at which the cumulative probability [B, V] exceeds `uniform` [B]; never one of probability 0."""
    cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
    targets = uniform[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, targets, right=True)[:, 0]
    return tokens.clamp_(max=probabilities.shape[1] - 1)  # out of range only for NaN, which the engine reports
