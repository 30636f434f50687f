"""Rollouts and conversations as one packed row of tokens with the positions whose predictions matter.

A few tokens that nothing is predicted from may follow at the end, as a sequence of their own: matrix products are faster
with some numbers of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkit.models.packed import PackedLayout
from rlkit.types import Rollouts, SupervisedBatch
from rlkit_fsdp.linear import padding_to_fast_rows

LEAST_PROMPT = 0.25
"""A prompt is shared from this length on, relative to its answers: attention to it apart from the answer's own tokens looks
at twice the keys that a causal pass does, which for a short prompt costs more than it spares."""


@dataclass(frozen=True, eq=False)
class PackedRows:
    """token_ids [T] int64; layout of the T tokens; predict_at [N] int64: position whose output predicts targets [N]."""

    token_ids: Tensor
    layout: PackedLayout
    predict_at: Tensor
    targets: Tensor


def pack_rollouts(rollouts: Rollouts, device: torch.device | str) -> PackedRows:
    """Prompt and response of each row end to end; every response token is predicted from the position before it.

    Rows with the same prompt share it where `prompt_groups` says so: prompt, response, response, ...
    """
    prompts, responses = rollouts.prompt_ids, rollouts.response_ids
    if len(prompts) and int(prompts.lengths.min()) == 0:
        raise ValueError("a prompt has no tokens: the first response token would have nothing to be predicted from")
    prompt_rows, response_rows = list(prompts.rows()), list(responses.rows())
    pieces: list[Tensor] = []
    lengths: list[int] = []
    continues: list[int] = []
    predicts: list[Tensor] = [torch.empty(0, dtype=torch.int64)] * len(rollouts)
    position = 0
    for rows in prompt_groups(rollouts, device):
        prompt_length = len(prompt_rows[rows[0]])
        prompt_end, begin = position + prompt_length - 1, len(lengths)
        position += prompt_length
        pieces.append(prompt_rows[rows[0]])
        lengths.append(prompt_length)
        continues.append(-1)
        for row in rows:
            response_length = len(response_rows[row])
            predicts[row] = torch.arange(position - 1, position + response_length - 1)
            predicts[row][:1] = prompt_end
            pieces.append(response_rows[row])
            if len(rows) == 1:
                lengths[begin] += response_length
            elif response_length:
                lengths.append(response_length)
                continues.append(begin)
            position += response_length
    shares = any(begin >= 0 for begin in continues)
    if padding := padding_to_fast_rows(position, device):
        pieces.append(torch.zeros(padding, dtype=torch.int64))
        lengths.append(padding)
        continues.append(-1)
    return PackedRows(
        token_ids=torch.cat(pieces).to(device),
        layout=PackedLayout.of(lengths, device, continues=continues if shares else None),
        predict_at=torch.cat(predicts).to(device),
        targets=responses.values.to(device),
    )


def prompt_groups(rollouts: Rollouts, device: torch.device | str) -> list[list[int]]:
    """Row numbers by prompt, in the order of the first of each; a row that does not share its prompt is alone.

    On a CPU only: elsewhere attention in few large calls is worth more than the tokens it would spare.
    """
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for row, prompt in enumerate(rollouts.prompt_ids.rows()):
        by_prompt.setdefault(tuple(prompt.tolist()), []).append(row)
    shares = torch.device(device).type == "cpu"
    groups: list[list[int]] = []
    for prompt_ids, rows in by_prompt.items():
        answers = int(rollouts.response_ids.lengths[rows].sum())
        if shares and len(rows) > 1 and len(prompt_ids) * len(rows) >= LEAST_PROMPT * answers:
            groups.append(rows)
        else:
            groups.extend([row] for row in rows)
    return groups


def pack_conversations(batch: SupervisedBatch, device: torch.device | str) -> PackedRows:
    """Conversations end to end; only tokens in the loss mask are predicted."""
    tokens, mask = batch.token_ids, batch.loss_mask.values
    targets_at = mask.nonzero().squeeze(1)
    starts = tokens.offsets[:-1][tokens.lengths > 0]
    if bool(mask[starts].any()):
        raise ValueError("the first token of a conversation is in the loss mask, but nothing comes before it")
    values, lengths = tokens.values, tokens.lengths[tokens.lengths > 0].tolist()
    if padding := padding_to_fast_rows(len(values), device):
        values = torch.cat((values, values.new_zeros(padding)))
        lengths.append(padding)
    return PackedRows(
        token_ids=values.to(device),
        layout=PackedLayout.of(lengths, device),
        predict_at=(targets_at - 1).to(device),
        targets=tokens.values[targets_at].to(device),
    )
