"""Adapters: what a run with LoRA leaves beside its merged model, and an adapter's folder as the model that answers."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from rlkit.cluster.weight_sync import takes_adapters
from rlkit.config.sections import LoraSection
from rlkit.models.adapter_folder import merged_weights, read_adapter, read_adapter_config
from rlkit.models.safetensors_io import stream_tensors
from rlkit.pipelines.assembly import LocatedModel, new_folder
from rlkit.protocols import AdapterEngine, RolloutEngine
from rlkit.types import AdapterWeights


@dataclass(frozen=True, eq=False)
class GivenAdapter:
    """The adapter of `model.path`, and how its base model stores adapted weights; see `merged_weights`."""

    weights: AdapterWeights
    transposed: bool
    base: Path

    @property
    def rank(self) -> int:
        return self.weights.rank


def given_adapter(located: LocatedModel) -> GivenAdapter | None:
    """The adapter that `model.path` is the folder of, read; None when it is a model's. Raises `ModelError`."""
    if located.adapter is None:
        return None
    transposed = bool(read_adapter_config(located.adapter).get("fan_in_fan_out"))
    return GivenAdapter(read_adapter(located.adapter), transposed, located.folder)


def put_on(engine: RolloutEngine, adapter: GivenAdapter | None) -> None:
    """Let a new engine answer with the adapter: alone where it takes adapters, else merged into the base model."""
    if adapter is None:
        return
    if takes_adapters(engine):
        cast(AdapterEngine, engine).update_adapter(adapter.weights, 0)
        return
    tensors = stream_tensors(adapter.base)
    engine.update_weights(merged_weights(tensors, adapter.weights, transposed=adapter.transposed), 0)


class Adapted(Protocol):
    def save_adapter(self, folder: Path) -> None: ...


def write_adapter(model: Adapted, section: LoraSection, target: Path) -> None:
    """Into `target`, whole; nothing when the model has none."""
    if section.rank:
        with new_folder(target) as aside:
            model.save_adapter(aside)


def copy_adapter(source: Path, target: Path) -> None:
    """A checkpoint's adapter to `target`, whole; nothing when it has none."""
    if source.is_dir():
        with new_folder(target) as aside:
            shutil.copytree(source, aside, dirs_exist_ok=True)
