"""What the checks of actor backends run on: a role on the tiny model, small batches, and the same numbers by transformers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rlkit.types import Experience, Prompt, Ragged, Rollouts, SupervisedBatch

if TYPE_CHECKING:
    from torch import Tensor

    from rlkit.algos.objective import PolicyObjective, ValueObjective
    from rlkit.protocols import ModelRole
    from rlkit.testing import ContractContext

ROWS = ((3, 5), (1, 2), (7, 1), (2, 9), (4, 4))
"""Prompt and response lengths of the suite's rollouts, in tokens."""
WHOLE, SPLIT = 8192, 9
"""micro_batch_tokens that take all rows at once, and about one row at a time."""


def model_role(context: ContractContext, *, tokens: int = WHOLE, trained: bool = True) -> ModelRole:
    """The tiny model in float32 on the CPU, with a warm-up and a schedule; `tokens` is micro_batch_tokens."""
    from rlkit.models.registry import find_family
    from rlkit.protocols.actor import ModelRole, OptimizerSettings

    # A large eps keeps Adam's first steps proportional to the gradient: with a tiny one, rounding noise in entries whose
    # gradient is nearly zero would be blown up to full steps.
    optimizer = OptimizerSettings(1e-3, 0.01, (0.9, 0.99), 1e-2, 1.0, "cosine", 2, 50, 0.1)
    folder = context.tiny_model()
    return ModelRole(
        folder, find_family(folder), "float32", "cpu", tokens, False, False, 0, optimizer if trained else None
    )


def random_rollouts(context: ContractContext) -> Rollouts:
    """Random tokens in rows of different lengths."""
    import torch

    from rlkit.models.shape import read_shape

    vocabulary = read_shape(context.tiny_model()).vocab_size
    generator = torch.Generator().manual_seed(0)
    prompts, responses = (
        Ragged.from_rows([torch.randint(vocabulary, (lengths[side],), generator=generator) for lengths in ROWS])
        for side in (0, 1)
    )
    return Rollouts(
        prompt_ids=prompts,
        response_ids=responses,
        response_mask=responses.with_values(torch.ones(responses.num_tokens, dtype=torch.bool)),
        rollout_log_probs=None,
        group_ids=torch.arange(len(ROWS)),
        finish_reasons=tuple("length" for _ in ROWS),
        policy_version=0,
        prompts=tuple(Prompt(row_id=row, text="?") for row in range(len(ROWS))),
    )


def made_up_experience(context: ContractContext) -> Experience:
    """Rollouts with made-up advantages and returns, old log-probs a little off the policy, and a gap in one mask."""
    import torch

    rollouts = random_rollouts(context)
    generator = torch.Generator().manual_seed(1)
    responses = rollouts.response_ids

    def noise(scale: float) -> Ragged:
        return responses.with_values(scale * torch.randn(responses.num_tokens, generator=generator))

    logits = torch.cat(list(reference_logits(context, rollouts)))
    log_probs = torch.log_softmax(logits, dim=-1).gather(1, responses.values[:, None])[:, 0]
    mask = rollouts.response_mask.with_values(rollouts.response_mask.values.clone())
    mask.values[1] = False
    return Experience(
        rollouts=rollouts,
        old_log_probs=responses.with_values(log_probs + noise(0.05).values),
        advantages=noise(1.0),
        loss_mask=mask,
        returns=noise(0.5),
        old_values=noise(0.0),
    )


def policy_objective(*, entropy_bonus: float = 0.0, scale: float = 1.0) -> PolicyObjective:
    """PPO's clipped loss, token mean; a large `scale` of the loss makes gradients overflow."""
    from rlkit.algos.aggregation import Aggregation
    from rlkit.algos.objective import PolicyObjective
    from rlkit.algos.policy_losses.ppo_clip import PPOClip
    from rlkit.algos.policy_losses.token_losses import TokenLosses

    clip = PPOClip(0.2, 0.2, 3.0)

    def loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> TokenLosses:
        token = clip(log_probs, old_log_probs, advantages, mask)
        return TokenLosses(token.losses * scale, token.metrics)

    return PolicyObjective(clip if scale == 1.0 else loss, Aggregation("token_mean"), entropy_bonus=entropy_bonus)


def choosing_objective() -> PolicyObjective:
    """Clip-Cov with bounds that a few of the made-up experience's tokens are within: one fifth of the tokens is drawn."""
    from rlkit.algos.aggregation import Aggregation
    from rlkit.algos.objective import PolicyObjective
    from rlkit.algos.policy_losses.clip_cov import ClipCov

    return PolicyObjective(ClipCov(0.2, 0.2, 0.2, 0.0, 100.0), Aggregation("token_mean"))


def value_objective() -> ValueObjective:
    """Squared error with a clip too wide to matter."""
    from rlkit.algos.objective import ValueObjective

    return ValueObjective(clip=10.0)


def random_conversations(context: ContractContext) -> SupervisedBatch:
    """The random rollouts as conversations, their responses to be learned."""
    rollouts = random_rollouts(context)
    pairs = zip(rollouts.prompt_ids.rows(), rollouts.response_ids.rows(), strict=True)
    rows = [(*prompt.tolist(), *response.tolist()) for prompt, response in pairs]
    masks = [[False] * prompt + [True] * response for prompt, response in ROWS]
    return SupervisedBatch(Ragged.from_rows(rows), Ragged.from_rows(masks))


def reference_logits(context: ContractContext, rollouts: Rollouts, *, module: Any = None) -> Iterator[Tensor]:
    """Logits [R, V] before each response token, by transformers itself, row by row."""
    import torch
    from transformers import AutoModelForCausalLM

    module = module or AutoModelForCausalLM.from_pretrained(context.tiny_model(), dtype=torch.float32).eval()
    for prompt_ids, response in zip(rollouts.prompt_ids.rows(), rollouts.response_ids.rows(), strict=True):
        with torch.no_grad():
            yield module(torch.cat([prompt_ids, response])[None]).logits[0, len(prompt_ids) - 1 : -1].float()


def reference_loss(context: ContractContext, batch: SupervisedBatch) -> float:
    """Mean cross-entropy over the loss tokens of the random conversations, by transformers itself."""
    import torch

    rollouts = random_rollouts(context)
    total = 0.0
    for row, logits in enumerate(reference_logits(context, rollouts)):
        tokens = list(rollouts.response_ids.rows())[row]
        total += float(torch.nn.functional.cross_entropy(logits, tokens, reduction="sum"))
    return total / batch.num_loss_tokens
