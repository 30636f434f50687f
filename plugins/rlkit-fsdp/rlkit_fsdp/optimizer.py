"""AdamW with a learning-rate course, gradient clipping that skips broken steps, and state that is never pickled."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rlkit.errors import CheckpointError
from rlkit.protocols.actor import OptimizerSettings

_MOMENTS = ("exp_avg", "exp_avg_sq")


def learning_rate(settings: OptimizerSettings, step: int) -> float:
    """Rate of optimizer step `step`, counted from 0: linear warm-up, then the schedule down to min_lr_ratio."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.lr
    course = max(1, settings.total_steps - settings.warmup_steps)
    progress = min(1.0, (step - settings.warmup_steps) / course)
    remaining = 1 - progress if settings.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return settings.lr * (settings.min_lr_ratio + (1 - settings.min_lr_ratio) * remaining)


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

    def step(self) -> dict[str, float]:
        """Clip, step, advance the schedule. A non-finite gradient norm skips the update but not the schedule.

        Returns `grad_norm` (before clipping), `lr`, and `skipped_steps` so far.
        """
        rate = learning_rate(self.settings, self.steps_done)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        norm = nn.utils.clip_grad_norm_([parameter for _, parameter in self._named], self.settings.max_grad_norm)
        if torch.isfinite(norm):
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

    def save(self, folder: Path) -> None:
        """Moments as safetensors, counters as JSON."""
        tensors: dict[str, Tensor] = {}
        steps: dict[str, float] = {}
        for name, parameter in self._named:
            state = self._adamw.state.get(parameter)
            if not state:
                continue
            steps[name] = float(state["step"])
            for moment in _MOMENTS:
                tensors[f"{name}.{moment}"] = state[moment].detach().contiguous().cpu()
        save_file(tensors, folder / "optimizer.safetensors")
        counters = {"steps_done": self.steps_done, "steps_skipped": self.steps_skipped, "parameter_steps": steps}
        (folder / "optimizer.json").write_text(json.dumps(counters))

    def load(self, folder: Path) -> None:
        counters = json.loads((folder / "optimizer.json").read_text())
        tensors = load_file(folder / "optimizer.safetensors")
        known = {name for name, _ in self._named}
        unknown = sorted(set(counters["parameter_steps"]) - known)
        if unknown:
            raise CheckpointError(f"optimizer state for parameters this model lacks: {', '.join(unknown[:3])}")
        for name, parameter in self._named:
            if name not in counters["parameter_steps"]:
                continue
            step = torch.tensor(counters["parameter_steps"][name], dtype=torch.float32, device=parameter.device)
            moments = {moment: tensors[f"{name}.{moment}"].to(parameter.device) for moment in _MOMENTS}
            self._adamw.state[parameter] = {"step": step, **moments}
        self.steps_done = counters["steps_done"]
        self.steps_skipped = counters["steps_skipped"]
