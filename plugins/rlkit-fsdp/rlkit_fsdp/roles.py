"""What all roles share: building a module from a `ModelRole`, learning from a mini-batch, moving, saving and loading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from rlkit.algos.aggregation import Denominators
from rlkit.algos.metric_totals import MetricTotals
from rlkit.algos.objective import ObjectiveShare
from rlkit.data.silent_rows import silent_experience
from rlkit.errors import CheckpointError
from rlkit.models.state_files import BackgroundSave, check_is_there
from rlkit.protocols.actor import ModelRole
from rlkit.protocols.family import ModelHead
from rlkit.types import Experience
from rlkit.types.adapter import AdapterWeights
from rlkit_fsdp.linear import use_fast_linear
from rlkit_fsdp.lora import Adapter
from rlkit_fsdp.micro_batches import split_rollouts
from rlkit_fsdp.modules import PackedValueModel, RootModule
from rlkit_fsdp.optimizer import Optimizer
from rlkit_fsdp.options import FSDPOptions
from rlkit_fsdp.packed_rows import PackedRows, pack_rollouts
from rlkit_fsdp.saving import State, begin_writing, read_tensors, write_state
from rlkit_fsdp.sharding import Sharding, give_back

Root = TypeVar("Root", bound=RootModule)

ShareOf = Callable[[Experience, PackedRows, Denominators], ObjectiveShare]
"""Forward pass and objective of one micro-batch."""

WEIGHTS, ADAPTER = "weights", "adapter"
"""Folders of a checkpoint: all parameters; the trained ones of a role with an adapter. Names are those in the module."""


class HeldModel(Generic[Root]):
    """A module with the folder's weights, spread over the ranks, ready for training or, without an optimizer, frozen.

    A trained module keeps its parameters in float32 whatever the arithmetic: AdamW's small steps would be lost in
    bfloat16's eight bits. One that gets an adapter is frozen itself, so it is held in the role's type. It is in evaluation
    mode, so that dropout does nothing: a policy that gave other log-probs the second time would start its update from a
    ratio other than 1.
    """

    root: Root

    def __init__(
        self, role: ModelRole, root_class: type[Root], options: FSDPOptions | None, *, dtype: torch.dtype | None = None
    ) -> None:
        """`dtype` is that of the parameters where the role does not decide it."""
        self.role = role
        self.sharding = Sharding.of_this_process(role.device, options or FSDPOptions())
        trained = role.optimizer is not None
        compute_dtype: torch.dtype = getattr(torch, role.dtype)
        held = torch.float32 if trained and role.lora is None else compute_dtype
        head: ModelHead = "value" if root_class is PackedValueModel else "causal_lm"
        self.module: Any = role.family.build(
            role.path,
            head=head,
            dtype=dtype or held,
            device=self.sharding.build_device,
            trust_remote_code=role.trust_remote_code,
        ).eval()
        if not trained:
            self.module.requires_grad_(False)
        elif role.gradient_checkpointing:
            _checkpoint_layers(self.module)
        self.adapter = Adapter(self.module, role.lora, seed=role.seed) if trained and role.lora is not None else None
        use_fast_linear(self.module, role.device)
        self.root = root_class(self.module, compute_dtype)
        self.sharding.spread(self.root, compute_dtype)
        self.load_weights(role.path)
        self._check()

    def load_weights(self, folder: Path) -> None:
        """All but an adapter from safetensors with Hugging Face names; each rank keeps its part of each tensor."""
        self.role.family.load_weights(self.plain_module, folder)

    @property
    def token_budget(self) -> int:
        """Most tokens of one forward pass, padding included; a longer row goes alone."""
        return self.sharding.options.pass_tokens(
            self.role.micro_batch_tokens, device=self.role.device, processes=self.sharding.ranks.size
        )

    @property
    def plain_module(self) -> Any:
        """The module without adapter layers, on the same parameters."""
        return self.module if self.adapter is None else self.adapter.without_layers()

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        """One full tensor at a time; collective."""
        if self.adapter is not None:
            yield from self.adapter.merged_weights(self.role.family, self.sharding)
            return
        for name, tensor in self.role.family.export_weights(self.module):
            yield name, self.sharding.gathered(tensor)

    def onload(self) -> None:
        self._move(self.role.device)

    def offload(self) -> None:
        if self.role.device != "cpu":
            self._move("cpu")
            torch.cuda.empty_cache()

    def _move(self, device: str) -> None:
        if not self.sharding.keeps_parameters_on_host:
            self.root.to(device)

    def _check(self) -> None:
        dtype = next(self.module.parameters()).dtype
        if self.sharding.gathers_in_compute_dtype:
            dtype = getattr(torch, self.role.dtype)
        self.root.check(torch.device(self.role.device), dtype)
        if self.sharding.mesh is not None:
            give_back(self.root)


def persistent_tensors(module: torch.nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, tied ones once."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor
    return found


def _checkpoint_layers(module: Any) -> None:
    module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for layer in module.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.training = True  # it recomputes in training mode only; its forward pass is in evaluation mode
            layer.register_forward_pre_hook(_leave_training)
            layer.register_forward_hook(_return_to_training, always_call=True)


def _leave_training(layer: torch.nn.Module, _inputs: object) -> None:
    """What is inside is in evaluation mode already, but some layers (OPT's) call dropout themselves."""
    layer.training = False


def _return_to_training(layer: torch.nn.Module, _inputs: object, _output: object) -> None:
    layer.training = True


class TrainedModel(HeldModel[Root]):
    """A held module with its optimizer, as every trained role has it."""

    def __init__(self, role: ModelRole, root_class: type[Root], options: FSDPOptions | None) -> None:
        if role.optimizer is None:
            raise ValueError("a trained role needs optimizer settings")
        super().__init__(role, root_class, options)
        self.optimizer = Optimizer(self.module, role.optimizer)

    def learn(self, experience: Experience, share_of: ShareOf, *also: torch.nn.Module) -> tuple[dict[str, float], bool]:
        """Add up the gradients of one mini-batch, of which each rank has its own rows; `also` names further roots.

        Returns the metrics of the whole mini-batch, equal on every rank, and whether it is without any token to learn from.
        """
        local = Denominators.of(experience.loss_mask.padded(False))
        batches = split_rollouts(experience.rollouts, self.token_budget, self.role.device)
        batches, counts = self.sharding.ranks.agree(batches, (local.tokens, local.sequences))
        denominators = Denominators(*counts)
        totals = MetricTotals()
        for number, rows in enumerate(batches, start=1):
            part = experience.select(rows) if rows else silent_experience(experience)
            with self.sharding.micro_batch(self.root, *also, last=number == len(batches)):
                share = share_of(part, pack_rollouts(part.rollouts, self.role.device), denominators)
                self.sharding.scaled(share.loss).backward()  # type: ignore[no-untyped-call]
            totals.add(share.metrics)
        return self.sharding.ranks.sums_by_name(totals.read()), denominators.tokens == 0

    def export_adapter(self) -> AdapterWeights | None:
        """The adapter alone; None for a role without `lora`. Collective."""
        return None if self.adapter is None else self.adapter.weights(self.sharding)

    def save_adapter(self, folder: Path) -> None:
        """As peft opens it. Raises `ValueError` for a role without `lora`. Collective; only the first rank writes."""
        if self.adapter is None:
            raise ValueError("the role has no adapter")
        self.adapter.save_for_peft(folder, self.sharding)

    def state(self) -> State:
        """Everything that training changes: parameters (with an adapter the trained ones only), moments, counters."""
        return State({self._weights_folder: self._weights()}).joined(self.optimizer.state())

    def save(self, folder: Path) -> None:
        write_state(folder, self.state(), self.sharding.ranks)

    def begin_save(self, folder: Path) -> BackgroundSave:
        """See `rlkit.protocols.actor.PolicyActor.begin_save`."""
        return begin_writing(folder, self.state(), self.sharding.ranks)

    def load(self, folder: Path) -> None:
        """Raises `CheckpointError` when `folder` holds an adapter and the role has none, or the other way round, or is not
        whole."""
        check_is_there(folder)
        if self.adapter is None and (folder / ADAPTER).is_dir():
            raise CheckpointError(f"'{folder}' holds an adapter only; resume with the lora settings of the run")
        if self.adapter is not None and (folder / WEIGHTS).is_dir():
            raise CheckpointError(
                f"'{folder}' was saved without an adapter; resume with lora.rank = 0, or start a new run"
            )
        otherwise = (
            "the saved weights are of another model"
            if self.adapter is None
            else "the saved adapter has another rank or other targets; resume with the lora settings of the run, "
            "or start a new one"
        )
        read_tensors(folder / self._weights_folder, self._weights(), otherwise=otherwise)
        self.optimizer.load(folder)

    @property
    def _weights_folder(self) -> str:
        return WEIGHTS if self.adapter is None else ADAPTER

    def _weights(self) -> dict[str, Tensor]:
        return persistent_tensors(self.module) if self.adapter is None else self.adapter.trained()

    def _move(self, device: str) -> None:
        super()._move(device)
        if not self.sharding.keeps_parameters_on_host:
            self.optimizer.move_state(device)
