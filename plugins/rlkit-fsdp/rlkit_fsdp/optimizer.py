"""AdamW with a learning-rate course, gradient clipping that skips broken steps, and state that is never pickled."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rlkit.errors import CheckpointError
from rlkit.protocols.actor import OptimizerSettings
from rlkit_fsdp.saving import State, read_tensors

_MOMENTS = ("exp_avg", "exp_avg_sq")
FOLDER, COUNTERS = "optimizer", "optimizer.json"
"""In a checkpoint."""


class Optimizer:
    """Owns the optimizer state of one module."""

    def __init__(self, module: nn.Module, settings: OptimizerSettings) -> None:
        self.settings = settings
        self.steps_done = 0
        self.steps_skipped = 0
        self._named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
        matrices = [parameter for _, parameter in self._named if parameter.ndim > 1]
        vectors = [parameter for _, parameter in self._named if parameter.ndim <= 1]
        self._adamw = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            fused=True,
        )

    def zero_grad(self) -> None:
        self._adamw.zero_grad(set_to_none=True)

    def step(self, *, empty: bool = False) -> dict[str, float]:
        """Clip, step, advance the schedule. A non-finite gradient norm skips the update but not the schedule.

        So does `empty`, a mini-batch without a token to learn from: without a gradient AdamW would still decay the
        weights and move them by its old moments.

        Returns `grad_norm` (before clipping), `lr`, and `skipped_steps` so far.
        """
        rate = self.settings.learning_rate(self.steps_done)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        norm = nn.utils.clip_grad_norm_([parameter for _, parameter in self._named], self.settings.max_grad_norm)
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()  # the same on every rank, so all of them step or none does
        if torch.isfinite(norm) and not empty:
            self._adamw.step()
        else:
            self.steps_skipped += 1
        self.steps_done += 1
        self.zero_grad()
        return {"grad_norm": float(norm), "lr": rate, "skipped_steps": float(self.steps_skipped)}

    def move_state(self, device: torch.device | str) -> None:
        """Moments and step counts to `device`, which has to be where the parameters are at the next step."""
        for state in self._adamw.state.values():
            for key, tensor in state.items():
                state[key] = tensor.to(device)

    def state(self) -> State:
        """Moments, sharded as the parameters are, and counters."""
        stepped = {
            name: self._adamw.state[parameter] for name, parameter in self._named if self._adamw.state.get(parameter)
        }
        moments = {f"{name}.{moment}": state[moment] for name, state in stepped.items() for moment in _MOMENTS}
        steps = {name: float(state["step"]) for name, state in stepped.items()}
        counters = {"steps_done": self.steps_done, "steps_skipped": self.steps_skipped, "parameter_steps": steps}
        return State({FOLDER: moments}, {COUNTERS: counters})

    def load(self, folder: Path) -> None:
        """Undo writing `state` under `folder`. Collective for sharded parameters."""
        try:
            counters = json.loads((folder / COUNTERS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"'{folder / COUNTERS}' cannot be read: {error}") from error
        known = {name for name, _ in self._named}
        unknown = sorted(set(counters["parameter_steps"]) - known)
        if unknown:
            raise CheckpointError(f"optimizer state for parameters this model lacks: {', '.join(unknown[:3])}")
        self._adamw.state.clear()
        moments: dict[str, Tensor] = {}
        for name, parameter in self._named:
            if name not in counters["parameter_steps"]:
                continue
            # A step count of its own for each: AdamW counts in place.
            step = torch.tensor(counters["parameter_steps"][name], dtype=torch.float32, device=parameter.device)
            state = {moment: torch.zeros_like(parameter, requires_grad=False) for moment in _MOMENTS}
            self._adamw.state[parameter] = {"step": step, **state}
            moments |= {f"{name}.{moment}": tensor for moment, tensor in state.items()}
        read_tensors(folder / FOLDER, moments, otherwise="the optimizer state is of another model")
        self.steps_done = counters["steps_done"]
        self.steps_skipped = counters["steps_skipped"]
