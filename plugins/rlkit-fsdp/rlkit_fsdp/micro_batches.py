"""Splitting a mini-batch by a token budget."""

from __future__ import annotations

import torch

from rlkit.data.micro_batches import split_by_tokens
from rlkit.types import Rollouts
from rlkit_fsdp.packed_rows import prompt_groups


def split_rollouts(rollouts: Rollouts, budget: int, device: torch.device | str) -> list[list[int]]:
    """As `split_by_tokens`, prompts and responses together; rows that share their prompt stay together, and it counts once.

    Never more micro-batches than without sharing.
    """
    prompts, responses = (ragged.lengths.tolist() for ragged in (rollouts.prompt_ids, rollouts.response_ids))
    lengths = [prompt + response for prompt, response in zip(prompts, responses, strict=True)]
    shared: list[list[int]] = []
    left: list[int] = []
    for rows in _split_with_shared_prompts(rollouts, budget, device):
        # Where a part of a group would not share its prompt, what was counted once may be there for every row.
        if len(rows) == 1 or _packed_tokens(rollouts.select(rows), device) <= budget:
            shared.append(rows)
        else:
            left += rows
    left.sort()
    shared += ([left[index] for index in rows] for rows in split_by_tokens([lengths[row] for row in left], budget))
    plain = split_by_tokens(lengths, budget)
    return shared if len(shared) <= len(plain) else plain


def _split_with_shared_prompts(rollouts: Rollouts, budget: int, device: torch.device | str) -> list[list[int]]:
    """Each prompt counts once in a micro-batch when its whole group shares it."""
    prompts, responses = (ragged.lengths.tolist() for ragged in (rollouts.prompt_ids, rollouts.response_ids))
    units: list[list[int]] = []
    sizes: list[int] = []
    for rows in prompt_groups(rollouts, device):
        open_unit = False
        for row in rows:
            if open_unit and sizes[-1] + responses[row] <= budget:
                units[-1].append(row)
                sizes[-1] += responses[row]
            else:
                units.append([row])
                sizes.append(prompts[row] + responses[row])
                open_unit = True
    return [
        sorted(row for unit in micro_batch for row in units[unit]) for micro_batch in split_by_tokens(sizes, budget)
    ]


def _packed_tokens(rollouts: Rollouts, device: torch.device | str) -> int:
    prompts: list[int] = rollouts.prompt_ids.lengths.tolist()
    shared = sum(prompts[rows[0]] for rows in prompt_groups(rollouts, device))
    return shared + len(rollouts.response_ids.values)
