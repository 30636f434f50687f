"""Rollouts and conversations as one packed row of tokens with the positions whose predictions matter."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkit.models.packed import PackedLayout
from rlkit.types import Rollouts, SupervisedBatch
from rlkit_megatron.layer_spec import PackedRowsParams


@dataclass(frozen=True, eq=False)
class PackedRows:
    """token_ids [T] int64; lengths of the rows that the T tokens are; predict_at [N] int64: position whose output predicts
    targets [N]."""

    token_ids: Tensor
    lengths: tuple[int, ...]
    predict_at: Tensor
    targets: Tensor

    def params(self) -> PackedRowsParams:
        """As attention wants to know it."""
        device = self.token_ids.device
        ends = torch.tensor([0, *self.lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32).to(device)
        longest = max(self.lengths)
        return PackedRowsParams(
            qkv_format="thd",
            cu_seqlens_q=ends,
            cu_seqlens_kv=ends,
            max_seqlen_q=longest,
            max_seqlen_kv=longest,
            layout=PackedLayout.of(self.lengths, device),
        )


def pack_rollouts(rollouts: Rollouts, device: str, *, multiple: int) -> PackedRows:
    """Prompt and response of each row end to end; every response token is predicted from the position before it.

    multiple: of which the number of tokens must be; what is missing follows as a row that nothing is predicted from.
    """
    prompts, responses = rollouts.prompt_ids, rollouts.response_ids
    if len(prompts) and int(prompts.lengths.min()) == 0:
        raise ValueError("a prompt has no tokens: the first response token would have nothing to be predicted from")
    pieces: list[Tensor] = []
    predicts: list[Tensor] = []
    lengths: list[int] = []
    position = 0
    for prompt, response in zip(prompts.rows(), responses.rows(), strict=True):
        pieces += [prompt, response]
        lengths.append(len(prompt) + len(response))
        begin = position + len(prompt) - 1
        predicts.append(torch.arange(begin, begin + len(response)))
        position += lengths[-1]
    return _packed(torch.cat(pieces), lengths, torch.cat(predicts), responses.values, device, multiple)


def pack_conversations(batch: SupervisedBatch, device: str, *, multiple: int) -> PackedRows:
    """Conversations end to end; only tokens in the loss mask are predicted. `multiple` as in `pack_rollouts`."""
    tokens = batch.token_ids
    targets_at = batch.loss_mask.values.nonzero().squeeze(1)
    starts = tokens.offsets[:-1][tokens.lengths > 0]
    if bool(batch.loss_mask.values[starts].any()):
        raise ValueError("the first token of a conversation is in the loss mask, but nothing comes before it")
    lengths = tokens.lengths[tokens.lengths > 0].tolist()
    return _packed(tokens.values, lengths, targets_at - 1, tokens.values[targets_at], device, multiple)


def _packed(
    token_ids: Tensor, lengths: list[int], predict_at: Tensor, targets: Tensor, device: str, multiple: int
) -> PackedRows:
    if padding := -len(token_ids) % multiple:
        token_ids = torch.cat((token_ids, token_ids.new_zeros(padding)))
        lengths = [*lengths, padding]
    return PackedRows(token_ids.to(device), tuple(lengths), predict_at.to(device), targets.to(device))
