"""What an actor backend's own options say of the size of its passes, for `--dry-run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlkit.pipelines.placement import backend_options, placed_groups, torchrun_size

if TYPE_CHECKING:
    from rlkit.config.runs import PPOConfig, SFTConfig


def largest_pass(config: SFTConfig | PPOConfig, micro_batch_tokens: int, *, device: str, role: str = "actor") -> int:
    """Tokens of one pass that `role` takes of the `micro_batch_tokens` that it may; a longer row goes alone.

    From `pass_tokens` of the backend's options, see docs/plugins/actor_backend.md; without it the number as it is.
    """
    pass_tokens = getattr(backend_options(config), "pass_tokens", None)
    if pass_tokens is None:
        return micro_batch_tokens
    return int(pass_tokens(micro_batch_tokens, device=device, processes=_processes(config, role)))


def _processes(config: SFTConfig | PPOConfig, role: str) -> int:
    """That share the model of `role`."""
    groups = placed_groups(config)
    if not groups:
        return max(torchrun_size(), 1)
    return next((group for group in groups if role in group.roles), groups[0]).count
