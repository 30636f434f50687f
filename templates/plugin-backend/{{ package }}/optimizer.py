"""AdamW with warm-up, schedule and clipping; its state is written as safetensors and JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rlkit.protocols.actor import OptimizerSettings

MOMENTS = ("exp_avg", "exp_avg_sq")


def learning_rate(settings: OptimizerSettings, step: int) -> float:
    """Rate of optimizer step `step`, counted from 0."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.lr
    progress = min(1.0, (step - settings.warmup_steps) / max(1, settings.total_steps - settings.warmup_steps))
    remaining = 1 - progress if settings.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return settings.lr * (settings.min_lr_ratio + (1 - settings.min_lr_ratio) * remaining)


class Optimizer:
    """The optimizer of one module."""

    def __init__(self, module: nn.Module, settings: OptimizerSettings) -> None:
        self.settings = settings
        self.steps_done = 0
        self.steps_skipped = 0
        self.parameters = dict(module.named_parameters())
        matrices = [parameter for parameter in self.parameters.values() if parameter.ndim > 1]
        vectors = [parameter for parameter in self.parameters.values() if parameter.ndim <= 1]
        self.adamw = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": vectors, "weight_decay": 0.0},  # norms and biases are never decayed
            ],
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
        )

    def step(self, *, empty: bool = False) -> dict[str, float]:
        """Clip, step, forget the gradients. A gradient that is not finite skips the update and is counted.

        So does `empty`, a mini-batch without a token to learn from: AdamW moves weights without a gradient too.
        """
        rate = learning_rate(self.settings, self.steps_done)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.max_grad_norm))
        if math.isfinite(norm) and not empty:
            self.adamw.step()
        else:
            self.steps_skipped += 1
        self.steps_done += 1
        self.adamw.zero_grad(set_to_none=True)
        return {"grad_norm": norm, "lr": rate, "skipped_steps": float(self.steps_skipped)}

    def move(self, device: str) -> None:
        """The moments to where the parameters are; AdamW counts its steps on the CPU."""
        for state in self.adamw.state.values():
            state |= {key: state[key].to(device) for key in MOMENTS}

    def save(self, folder: Path) -> None:
        states = {name: self.adamw.state[p] for name, p in self.parameters.items() if self.adamw.state.get(p)}
        tensors = {f"{name}.{key}": state[key].cpu() for name, state in states.items() for key in MOMENTS}
        save_file(tensors, folder / "optimizer.safetensors")
        counters: dict[str, Any] = {"steps_done": self.steps_done, "steps_skipped": self.steps_skipped}
        counters["parameter_steps"] = {name: float(state["step"]) for name, state in states.items()}
        (folder / "optimizer.json").write_text(json.dumps(counters), encoding="utf-8")

    def load(self, folder: Path) -> None:
        counters = json.loads((folder / "optimizer.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "optimizer.safetensors")
        self.adamw.state.clear()
        for name, steps in counters["parameter_steps"].items():
            parameter = self.parameters[name]
            moments = {key: tensors[f"{name}.{key}"].to(parameter.device) for key in MOMENTS}
            self.adamw.state[parameter] = {"step": torch.tensor(steps), **moments}
        self.steps_done, self.steps_skipped = counters["steps_done"], counters["steps_skipped"]
