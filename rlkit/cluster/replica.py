"""One copy of a rollout engine in a process of its own, and what it is made from."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlkit.cluster.environment import set_environment_guards
from rlkit.cluster.pulse import Pulse, PulseAddress
from rlkit.cluster.shipping import ShippedFolder, unpacked_name
from rlkit.cluster.versions import check_versions
from rlkit.cluster.weight_chunks import Chunk, tensors_of
from rlkit.cluster.weight_sync import takes_adapters
from rlkit.errors import ClusterError
from rlkit.protocols import AdapterEngine, RolloutEngine
from rlkit.protocols.rollout_engine import EnginePart
from rlkit.types import AdapterWeights, FinishReason, PromptBatch, Rollouts, SamplingParams

ReadChunk = Callable[[Any], Chunk]
"""From a reference to a chunk in shared memory, or a chunk on a shared GPU, to the chunk."""


@dataclass(frozen=True)
class ReplicaDescription:
    """Everything that a worker needs to build the engine: names and paths, no models.

    engine, options  the plugin and its own options; `where` is their config path, for messages
    folder, hub_id   the model's folder on the driver; where a node has no such folder, the Hub id is looked up there
    family           model family plugin
    tokenizer        folder or Hub id of another tokenizer; empty: the model's own
    device           cpu, or cuda: the first that the worker sees
    threads          of CPU arithmetic; 0 leaves torch's choice
    versions         distribution -> version that the worker must have
    files            plugin name -> the folder of its file, for plugins given as `file.py:attribute`
    lora_rank        as in `rlkit.rollout.engine_model.EngineModel`
    """

    engine: str
    options: Mapping[str, Any]
    where: str
    folder: str
    hub_id: str
    family: str
    tokenizer: str
    chat_template: str
    trust_remote_code: bool
    dtype: str
    device: str
    seed: int
    threads: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, ShippedFolder] = field(default_factory=dict)
    lora_rank: int = 0


@dataclass(frozen=True)
class ReplicaState:
    """What a replica must be in to stand beside the others: weights (None: those of the model's folder), what is released.

    adapter  scale and chunks of the adapter on those weights; None without one
    """

    chunks: tuple[Any, ...] | None = None
    version: int = 0
    adapter: tuple[float, tuple[Any, ...]] | None = None
    released: frozenset[EnginePart] = frozenset()


@dataclass(frozen=True)
class ReplicaInfo:
    """Where a replica runs, and whether its engine takes adapters."""

    node: str
    pid: int
    takes_adapters: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.node}"


@dataclass(frozen=True, eq=False)
class ReplicaAnswers:
    """Answers without their prompts, which the driver has: flat arrays, row after row.

    lengths [B] int64; token_ids [N] int64; mask [N] bool; log_probs [N] float32, nats, or None.
    """

    lengths: npt.NDArray[np.int64]
    token_ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]
    log_probs: npt.NDArray[np.float32] | None
    finish_reasons: tuple[FinishReason, ...]
    policy_version: int


class EngineReplica:
    """Holds one engine; its methods are called one at a time. Nothing is built before `set_up`.

    pulse: where its process gives signs of life, from its beginning to its end.
    """

    def __init__(
        self, description: ReplicaDescription, read_chunk: ReadChunk, pulse: PulseAddress | None = None
    ) -> None:
        self._description = description
        self._read_chunk = read_chunk
        self._engine: RolloutEngine | None = None
        self._pulse = None if pulse is None else Pulse(pulse)

    def set_up(self, state: ReplicaState) -> ReplicaInfo:
        """Build the engine and bring it into `state`. Raises `ClusterError` on a node with other versions."""
        info = ReplicaInfo(socket.gethostname(), os.getpid())
        set_environment_guards()
        check_versions(self._description.versions, node=info.node)
        if self._description.threads:
            torch.set_num_threads(self._description.threads)
        self._engine = build_engine(self._description, node=info.node)
        self.bring_into(state)
        return replace(info, takes_adapters=takes_adapters(self._engine))

    def bring_into(self, state: ReplicaState) -> None:
        """Do to a new engine what was done to the others."""
        if state.chunks is not None:
            self.update_weights(state.chunks, state.version)
        if state.adapter is not None:
            self.update_adapter(*state.adapter, state.version)
        if state.released:
            self._built().release(sorted(state.released))

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> ReplicaAnswers:
        """As `RolloutEngine.generate`."""
        return packed_answers(self._built().generate(prompts, sampling))

    def resume(self, parts: Sequence[EnginePart]) -> None:
        self._built().resume(parts)

    def release(self, parts: Sequence[EnginePart]) -> None:
        self._built().release(parts)

    def update_weights(self, chunks: Sequence[Any], version: int) -> None:
        """As `RolloutEngine.update_weights`; `chunks` are read from shared memory one after another."""
        self._built().update_weights(self._tensors(chunks), version)

    def update_adapter(self, scale: float, chunks: Sequence[Any], version: int) -> None:
        """As `AdapterEngine.update_adapter`; only for an engine that takes adapters."""
        engine = cast(AdapterEngine, self._built())
        engine.update_adapter(AdapterWeights.from_named_tensors(scale, self._tensors(chunks)), version)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()

    def _built(self) -> RolloutEngine:
        if self._engine is None:
            raise ClusterError("this replica has no engine yet; set_up comes first")
        return self._engine

    def _tensors(self, chunks: Iterable[Any]) -> Iterator[tuple[str, Tensor]]:
        for reference in chunks:
            yield from tensors_of(self._read_chunk(reference))


def build_engine(description: ReplicaDescription, *, node: str) -> RolloutEngine:
    """The engine, in this process."""
    from rlkit.models.locate import locate_model, locate_tokenizer
    from rlkit.models.registry import build_family
    from rlkit.models.tokenizer import load_tokenizer
    from rlkit.plugin import PluginKind
    from rlkit.plugin.loader import build_plugin
    from rlkit.rollout.engine_model import EngineModel

    trust = description.trust_remote_code
    folder = Path(description.folder)
    if not folder.is_dir():
        if not description.hub_id:
            raise ClusterError(
                f"node {node} has no folder {folder}; put the model on a file system that all nodes share, or give a Hub id"
            )
        folder = locate_model(description.hub_id, trust_remote_code=trust)
    tokenizer = description.tokenizer
    engine: RolloutEngine = build_plugin(
        PluginKind.ROLLOUT_ENGINE,
        unpacked_name(description.engine, description.files.get(description.engine)),
        description.options,
        where=description.where,
        model=EngineModel(
            folder=folder,
            family=build_family(unpacked_name(description.family, description.files.get(description.family))),
            tokenizer=load_tokenizer(
                locate_tokenizer(tokenizer, trust_remote_code=trust) if tokenizer else folder,
                chat_template=description.chat_template,
                trust_remote_code=trust,
            ),
            dtype=description.dtype,
            device=description.device,
            trust_remote_code=trust,
            seed=description.seed,
            lora_rank=description.lora_rank,
        ),
    )
    return engine


def packed_answers(rollouts: Rollouts) -> ReplicaAnswers:
    """What the driver does not have yet."""
    log_probs = rollouts.rollout_log_probs
    return ReplicaAnswers(
        lengths=rollouts.response_ids.lengths.cpu().numpy(),
        token_ids=rollouts.response_ids.values.cpu().numpy(),
        mask=rollouts.response_mask.values.cpu().numpy(),
        log_probs=None if log_probs is None else log_probs.values.cpu().numpy(),
        finish_reasons=rollouts.finish_reasons,
        policy_version=rollouts.policy_version,
    )
