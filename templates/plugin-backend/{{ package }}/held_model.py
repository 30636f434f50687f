"""What all roles share: a module on its device, forward passes over one row, saving and loading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from rlkit.algos.aggregation import Denominators
from rlkit.algos.metric_totals import MetricTotals
from rlkit.algos.objective import ObjectiveShare
from rlkit.errors import ModelError
from rlkit.protocols.actor import ModelRole
from rlkit.protocols.family import ModelHead
from rlkit.protocols.saving import FinishedSave
from rlkit.types import Experience

from .optimizer import Optimizer


class HeldModel:
    """A module with the weights of `role.path`: frozen, or with float32 parameters for AdamW's small steps."""

    def __init__(self, role: ModelRole, head: ModelHead) -> None:
        self.role = role
        self.compute_dtype: torch.dtype = getattr(torch, role.dtype)
        trained = role.optimizer is not None
        self.module: Any = role.family.build(
            role.path,
            head=head,
            dtype=torch.float32 if trained else self.compute_dtype,
            device=role.device,
            trust_remote_code=role.trust_remote_code,
        )
        role.family.load_weights(self.module, role.path)
        # Evaluation mode in training too: with dropout, a policy's first update would start from ratios other than 1.
        self.module.eval().requires_grad_(trained)
        if trained and role.gradient_checkpointing:
            self.module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            for layer in self.module.modules():
                if isinstance(layer, GradientCheckpointingLayer):
                    layer.training = True  # it recomputes in training mode only; what is inside it stays as it is

    def run(self, token_ids: Tensor, **options: Any) -> Any:
        """The module's output for one row `token_ids` [T]: causal, without padding. `options` are the module's."""
        mixed = self.compute_dtype != torch.float32
        device_type = torch.device(self.role.device).type
        with torch.autocast(device_type, dtype=self.compute_dtype if mixed else torch.bfloat16, enabled=mixed):
            return self.module(token_ids.to(self.role.device)[None], use_cache=False, **options)

    def log_probs(self, token_ids: Tensor, start: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probs, entropies and sums of squared probabilities, [T - start] float32, of the tokens from `start` (at
        least 1) on."""
        return token_statistics(self.run(token_ids).logits[0, start - 1 : -1], token_ids[start:], temperature)

    def onload(self) -> None:
        self.module.to(self.role.device)

    def offload(self) -> None:
        self.module.to("cpu")


class TrainedModel(HeldModel):
    """A held model with its optimizer."""

    def __init__(self, role: ModelRole, head: ModelHead) -> None:
        super().__init__(role, head)
        if role.optimizer is None:
            raise ValueError("a trained role needs optimizer settings")
        if role.lora is not None:
            raise ModelError("this backend has no adapters; set lora.rank = 0, or choose backend fsdp")
        self.optimizer = Optimizer(self.module, role.optimizer)

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.role.family.export_weights(self.module)

    def save_adapter(self, folder: Path) -> None:
        raise ValueError("there is no adapter")

    def save(self, folder: Path) -> None:
        """Weights and optimizer under `folder`; no pickles, so that a checkpoint can never run code."""
        weights = folder / "weights"
        weights.mkdir()
        self.role.family.save(self.export_weights(), self.module.config, weights)
        self.optimizer.save(folder)

    def begin_save(self, folder: Path) -> FinishedSave:
        """A backend for large models would copy the state, return, and write in a thread; this one writes at once."""
        self.save(folder)
        return FinishedSave()

    def load(self, folder: Path) -> None:
        """What `save` wrote; the next step then gives the same bits."""
        self.role.family.load_weights(self.module, folder / "weights")
        self.optimizer.load(folder)

    def onload(self) -> None:
        super().onload()
        self.optimizer.move(self.role.device)

    def offload(self) -> None:
        super().offload()
        self.optimizer.move("cpu")


def learn_rows(
    experience: Experience, share_of: Callable[[Experience, Denominators], ObjectiveShare]
) -> tuple[dict[str, float], bool]:
    """Gradients of all rows, one after the other. Gives the metrics, and whether no token at all is in the loss."""
    denominators = Denominators.of(experience.loss_mask.padded(False))
    totals = MetricTotals()
    for index in range(len(experience)):
        share = share_of(experience.select([index]), denominators)
        share.loss.backward()
        totals.add(share.metrics)
    return totals.read(), denominators.tokens == 0


def token_statistics(logits: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probs, entropies and sums of squared probabilities, [T] float32, of `tokens` [T] by `logits` [T, vocabulary]."""
    distribution = torch.log_softmax(logits.float() / temperature, dim=-1)
    chosen = distribution.gather(1, tokens.to(logits.device)[:, None])[:, 0]
    probabilities = distribution.exp()
    squares = probabilities.detach().square().sum(dim=-1)
    return chosen, -(probabilities * distribution).sum(dim=-1), squares
