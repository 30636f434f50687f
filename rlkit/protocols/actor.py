"""Actor backends: they build and train the models of the roles.

A model may be spread over several processes (ranks), each of which runs the backend. Every method is then collective: all
ranks call it, in the same order, each with its own rows (possibly none), and each gets the results of its own rows. Where
several ranks hold one copy of a model (`SharesRows`), these have the same rows.
Denominators and metrics are those of all ranks' rows together; `export_weights` gives full tensors on every rank;
`save`, `begin_save` and `load` are given the same folder on every rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from rlkit.protocols.actor_critic import ActorCritic
from rlkit.protocols.critic import Critic
from rlkit.protocols.family import ModelFamily
from rlkit.protocols.saving import PendingSave
from rlkit.protocols.supervised import SupervisedTrainee
from rlkit.types.experience import Experience
from rlkit.types.ragged import Ragged
from rlkit.types.rollouts import Rollouts

if TYPE_CHECKING:
    from torch import Tensor

    from rlkit.algos.objective import PolicyObjective

Metrics = Mapping[str, float]
"""`area/name` -> number."""


@dataclass(frozen=True, eq=False)
class LogProbs:
    """log_probs, entropy: ragged float32 aligned with the responses, nats; probability_squares: likewise, the sum over the
    vocabulary of the squared probabilities, in (0, 1], None when nobody asked."""

    log_probs: Ragged
    entropy: Ragged
    probability_squares: Ragged | None = None


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with a warm-up and a schedule; see the config section of the role for the meaning of each."""

    lr: float
    weight_decay: float
    betas: tuple[float, float]
    eps: float
    max_grad_norm: float
    schedule: Literal["constant", "cosine", "linear"]
    warmup_steps: int
    total_steps: int  # optimizer steps of the whole run: where cosine and linear end
    min_lr_ratio: float

    def learning_rate(self, step: int) -> float:
        """Rate of optimizer step `step`, counted from 0: linear warm-up, then the schedule down to min_lr_ratio."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.lr
        course = max(1, self.total_steps - self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / course)
        remaining = 1 - progress if self.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return self.lr * (self.min_lr_ratio + (1 - self.min_lr_ratio) * remaining)


@dataclass(frozen=True)
class LoraSettings:
    """Adapters of low rank on linear layers (Hu et al. 2021, arXiv:2106.09685): y = W x + alpha / rank * B A x, B zero at first."""

    rank: int
    alpha: float
    targets: tuple[str, ...]  # ("all_linear",): all but the output head; else layers by the end of their names


@dataclass(frozen=True)
class ModelRole:
    """What a backend needs to know to build one model. The same for every role."""

    path: Path  # a folder with config.json and safetensors
    family: ModelFamily
    dtype: str  # of the parameters and the arithmetic: float32, bfloat16, float16
    device: str  # cpu, cuda, cuda:1
    micro_batch_tokens: int  # no forward pass sees more tokens than this (a longer row goes alone)
    gradient_checkpointing: bool
    trust_remote_code: bool
    seed: int
    optimizer: OptimizerSettings | None = None  # None: the role is never trained
    lora: LoraSettings | None = None  # only adapters (and a value head) are trained; what is frozen is held in `dtype`


@dataclass(frozen=True)
class RowShare:
    """Which rows of a batch a rank works on: part `index` of `count`. Ranks with the same part hold one copy of a model
    together."""

    index: int
    count: int


@runtime_checkable
class SharesRows(Protocol):
    """An actor backend that gives several ranks the same rows; without this every rank has rows of its own."""

    def row_share(self) -> RowShare:
        """Of this rank. Every part is somebody's."""
        ...


class ReferenceModel(Protocol):
    """A frozen policy."""

    def compute_log_probs(self, rollouts: Rollouts, *, temperature: float) -> LogProbs:
        """Log-probs of each response token under `softmax(logits / temperature)`, and that distribution's entropy."""
        ...

    def onload(self) -> None:
        """Back to the role's device; may be called twice."""
        ...

    def offload(self) -> None:
        """Everything that belongs to the model into host memory, without changing a number; may be called twice.

        Nothing computes with it there, but whatever exports, saves, loads or takes over weights works all the same.
        """
        ...


class MovingReference(ReferenceModel, Protocol):
    """A reference that follows the policy. Its parameters are float32: a moving average loses small steps in bfloat16.

    Right after a copy it gives the policy's own log-probs, bit for bit (up to rounding where an adapter was merged in).
    """

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], *, decay: float = 0.0) -> None:
        """weights = decay * weights + (1 - decay) * tensors; `decay` 0 (in [0, 1)) copies them.

        `named_tensors` are full tensors with Hugging Face names, one at a time, as `export_weights` gives them.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the weights under `folder` (which exists and is empty)."""
        ...

    def begin_save(self, folder: Path) -> PendingSave:
        """As `PolicyActor.begin_save`."""
        ...

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote, bit for bit."""
        ...


class PolicyActor(ReferenceModel, Protocol):
    """The policy in training."""

    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        """As a reference's; `probability_squares` asks for that field too."""
        ...

    def update_policy(self, experience: Experience, objective: PolicyObjective, *, temperature: float) -> Metrics:
        """One optimizer step on one mini-batch, however many micro-batches that takes.

        `objective.prepare` is called, and loss denominators are counted, on the whole mini-batch, so the split never
        changes the gradient.
        A step whose gradient norm is not finite is skipped and counted in `actor/skipped_steps`, and so is one on a
        mini-batch without a token in its loss mask: no weight decay, no change of the moments.
        """
        ...

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Hugging Face names and full tensors, one at a time; tied tensors appear once. Adapters are merged in, in float32."""
        ...

    def base_policy(self) -> ReferenceModel | None:
        """The policy without its adapter, on the same parameters; None unless the role has `lora`."""
        ...

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter under `folder` (which exists and is empty) as peft opens it; only for a role with `lora`."""
        ...

    def save(self, folder: Path) -> None:
        """Write weights, optimizer and schedule under `folder` (which exists and is empty); with `lora` no frozen weights."""
        ...

    def begin_save(self, folder: Path) -> PendingSave:
        """Copy the state into host memory and return; the files of `save` are written while training goes on.

        At most one save of a model is pending at a time. Collective up to its return, never after it.
        """
        ...

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote; the next update then gives the same bits."""
        ...


class ActorBackend(Protocol):
    """The plugin's target: constructed as `Target(options)` with its own validated options."""

    def build_actor(self, role: ModelRole) -> PolicyActor: ...

    def build_reference(self, role: ModelRole) -> ReferenceModel: ...

    def build_moving_reference(self, role: ModelRole) -> MovingReference: ...

    def build_critic(self, role: ModelRole) -> Critic: ...

    def build_actor_critic(self, role: ModelRole, *, head: OptimizerSettings) -> ActorCritic:
        """Actor and critic on one network; `head` is the value head's optimizer, which may learn for longer than the role's."""
        ...

    def build_supervised(self, role: ModelRole) -> SupervisedTrainee: ...
