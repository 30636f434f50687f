"""Rollouts and conversations as one packed row of tokens with the positions whose predictions matter."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkit.models.packed import PackedLayout
from rlkit.types import Rollouts, SupervisedBatch


@dataclass(frozen=True, eq=False)
class PackedRows:
    """token_ids [T] int64; layout of the T tokens; predict_at [N] int64: position whose output predicts targets [N]."""

    token_ids: Tensor
    layout: PackedLayout
    predict_at: Tensor
    targets: Tensor


def pack_rollouts(rollouts: Rollouts, device: torch.device | str) -> PackedRows:
    """Prompt and response of each row end to end; every response token is predicted from the position before it."""
    prompts, responses = rollouts.prompt_ids, rollouts.response_ids
    if len(prompts) and int(prompts.lengths.min()) == 0:
        raise ValueError("a prompt has no tokens: the first response token would have nothing to be predicted from")
    pieces = [piece for pair in zip(prompts.rows(), responses.rows(), strict=True) for piece in pair]
    lengths = prompts.lengths + responses.lengths
    starts = lengths.cumsum(0) - lengths
    first_prediction = starts + prompts.lengths - 1
    within = torch.arange(responses.num_tokens) - torch.repeat_interleave(
        responses.lengths.cumsum(0) - responses.lengths, responses.lengths
    )
    predict_at = torch.repeat_interleave(first_prediction, responses.lengths) + within
    return PackedRows(
        token_ids=torch.cat(pieces).to(device),
        layout=PackedLayout.of(lengths.tolist(), device),
        predict_at=predict_at.to(device),
        targets=responses.values.to(device),
    )


def pack_conversations(batch: SupervisedBatch, device: torch.device | str) -> PackedRows:
    """Conversations end to end; only tokens in the loss mask are predicted."""
    tokens, mask = batch.token_ids, batch.loss_mask.values
    targets_at = mask.nonzero().squeeze(1)
    starts = tokens.offsets[:-1][tokens.lengths > 0]
    if bool(mask[starts].any()):
        raise ValueError("the first token of a conversation is in the loss mask, but nothing comes before it")
    return PackedRows(
        token_ids=tokens.values.to(device),
        layout=PackedLayout.of(tokens.lengths[tokens.lengths > 0].tolist(), device),
        predict_at=(targets_at - 1).to(device),
        targets=tokens.values[targets_at].to(device),
    )


def row_lengths(rollouts: Rollouts) -> list[int]:
    """Tokens of each row, prompt and response together."""
    return (rollouts.prompt_ids.lengths + rollouts.response_ids.lengths).tolist()
