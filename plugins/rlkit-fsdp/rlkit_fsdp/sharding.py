"""Spreading a module over ranks with FSDP2 (`fully_shard`), without any rank ever holding all of it.

    meta module --fully_shard: each layer, then the root--> parameters [rows / ranks, ...], still without storage
    --materialize--> zeros of this rank's part --family.load_weights--> one tensor at a time, of which each rank keeps its part

Parameters are gathered only inside the root's forward pass; outside they are DTensors. On one rank nothing of this happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers.modeling_layers import GradientCheckpointingLayer

from rlkit.errors import ConfigError
from rlkit_fsdp.options import FSDPOptions
from rlkit_fsdp.ranks import Ranks

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


@dataclass(frozen=True, eq=False)
class Sharding:
    """How the modules of one device type are spread; `mesh` is None where they are not."""

    ranks: Ranks
    options: FSDPOptions = field(default_factory=FSDPOptions)
    mesh: DeviceMesh | None = None

    @classmethod
    def of_this_process(cls, device: str, options: FSDPOptions) -> Sharding:
        """Over torch.distributed's default group. Raises `ConfigError` when the options do not fit its size."""
        ranks = Ranks.of_this_process(device)
        if ranks.size % options.replicas:
            raise ConfigError(
                f"options.replicas = {options.replicas} does not divide the {ranks.size} processes of the group; "
                "choose a divisor (1: one copy over all of them)"
            )
        device_type = torch.device(device).type
        if ranks.size == 1 and not (options.cpu_offload and device_type != "cpu"):
            return cls(ranks, options)
        return cls(ranks, options, _mesh(device_type, ranks.size, options.replicas))

    @property
    def build_device(self) -> str:
        """Where modules are built: without storage when they are to be sharded."""
        return self.ranks.device if self.mesh is None else "meta"

    @property
    def gathers_in_compute_dtype(self) -> bool:
        """Whether float32 layers come into their forward pass in the role's type."""
        return self.mesh is not None and self.options.gather_dtype == "compute"

    @property
    def keeps_parameters_on_host(self) -> bool:
        """Whether parameters stay on the CPU between forward passes."""
        return self.mesh is not None and self.options.cpu_offload

    def spread(self, root: nn.Module, compute_dtype: torch.dtype) -> None:
        """Shard `root`, layer by layer, and give what has no storage zeros, on this rank's part only."""
        if self.mesh is None:
            return
        offload = (
            CPUOffloadPolicy(pin_memory=torch.cuda.is_available()) if self.options.cpu_offload else OffloadPolicy()
        )
        plain = MixedPrecisionPolicy(cast_forward_inputs=False)
        reshard = self.options.reshard_after_forward
        for layer in _layers(root):
            policy = self._mixed_precision(layer, compute_dtype)
            fully_shard(layer, mesh=self.mesh, reshard_after_forward=reshard, mp_policy=policy, offload_policy=offload)
        # The root's own parameters (embeddings, head) are the last used and the first needed again: kept for the backward pass.
        fully_shard(root, mesh=self.mesh, reshard_after_forward=False, mp_policy=plain, offload_policy=offload)
        self._materialize(root)

    def _mixed_precision(self, layer: nn.Module, compute_dtype: torch.dtype) -> MixedPrecisionPolicy:
        """Float32 layers travel in the type that autocast would cast them to anyway; gradients add up in float32."""
        held = {parameter.dtype for parameter in layer.parameters()}
        if not self.gathers_in_compute_dtype or held != {torch.float32} or compute_dtype == torch.float32:
            return MixedPrecisionPolicy(cast_forward_inputs=False)
        return MixedPrecisionPolicy(compute_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)

    def _materialize(self, root: nn.Module) -> None:
        home = "cpu" if self.options.cpu_offload else self.ranks.device

        def with_storage(tensor: Tensor) -> Tensor:
            return torch.zeros_like(tensor, device=home) if tensor.device.type == "meta" else tensor

        root._apply(with_storage)  # type: ignore[no-untyped-call]

    @contextmanager
    def micro_batch(self, *roots: nn.Module, last: bool) -> Iterator[None]:
        """Around forward and backward of one micro-batch: gradients are averaged over the ranks at the last one only."""
        if self.mesh is not None:
            for root in roots:
                if isinstance(root, FSDPModule):
                    root.set_requires_gradient_sync(last or self.options.sync_every_micro_batch)
        yield

    @contextmanager
    def without_gradients(self, *roots: nn.Module) -> Iterator[None]:
        """Around forward passes that no backward pass follows: what they gathered is given back at the end."""
        with torch.no_grad():
            yield
        if self.mesh is not None:
            for root in roots:
                give_back(root)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss whose gradient, averaged over the ranks by FSDP, is the sum of the ranks' gradients of `loss`."""
        return loss if self.ranks.size == 1 else loss * self.ranks.size

    def gathered(self, tensor: Tensor) -> Tensor:
        """The whole of a tensor of the model. Collective for a sharded one; any other comes back as it is."""
        if not isinstance(tensor, DTensor):
            return tensor
        there = tensor.to(self.ranks.device)
        assert isinstance(there, DTensor)
        return there.full_tensor()


def give_back(root: nn.Module) -> None:
    """Keep only this rank's part of every parameter."""
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _layers(root: nn.Module) -> list[nn.Module]:
    """The decoder's layers, the outermost of each nest."""
    found: dict[str, nn.Module] = {}
    for name, module in root.named_modules():
        if isinstance(module, GradientCheckpointingLayer) and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return list(found.values())


_meshes: dict[tuple[str, int], tuple[Any, DeviceMesh]] = {}
"""With the group that each is a mesh of."""


def _mesh(device_type: str, size: int, replicas: int) -> DeviceMesh:
    """The mesh of the default group, made once: every new one would open new connections."""
    from torch.distributed import HashStore  # type: ignore[attr-defined]
    from torch.distributed.device_mesh import init_device_mesh

    if not dist.is_initialized():  # a single process that wants FSDP's offloading
        transport = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
        dist.init_process_group(transport, store=HashStore(), rank=0, world_size=1)
    group, mesh = _meshes.get((device_type, replicas), (None, None))
    if mesh is None or group is not dist.group.WORLD:
        shape, names = (
            ((size,), ("shard",)) if replicas == 1 else ((replicas, size // replicas), ("replicate", "shard"))
        )
        mesh = init_device_mesh(device_type, shape, mesh_dim_names=names)
        _meshes[device_type, replicas] = dist.group.WORLD, mesh
    return mesh
