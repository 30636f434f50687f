"""Which tensors a weight update must bring: checked before vLLM sees them, since it skips names that it does not know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from rlkit.errors import ModelError
from rlkit.models.causal import hf_tensors
from rlkit.models.suggestion import did_you_mean
from rlkit.rollout.engine_model import EngineModel
from rlkit.types import AdapterWeights


class ExpectedWeights:
    """Hugging Face names and shapes of a model's parameters, tied ones once."""

    def __init__(self, model: EngineModel) -> None:
        module = model.family.build(
            model.folder,
            head="causal_lm",
            dtype=getattr(torch, model.dtype),
            device="meta",
            trust_remote_code=model.trust_remote_code,
        )
        self._architecture = type(module).__name__
        self._shapes = {name: tuple(tensor.shape) for name, tensor in model.family.export_weights(module)}
        tied: dict[int, str] = {}
        self._names: dict[str, str] = {name: name for name in self._shapes}
        for name, tensor in hf_tensors(module).items():
            first = tied.setdefault(id(tensor), name)
            if first in self._shapes:
                self._names.setdefault(name, first)

    def checked(self, named_tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """The tensors under the name that vLLM loads them by, each once.

        Raises `ModelError` for an unknown name, a wrong shape and, at the end, a missing tensor.
        """
        brought: set[str] = set()
        for given, tensor in named_tensors:
            name = self._names.get(given)
            if name is None:
                raise ModelError(
                    f"the weight update has a tensor '{given}' that {self._architecture} does not{did_you_mean(given, self._names)}"
                )
            if tuple(tensor.shape) != self._shapes[name]:
                raise ModelError(
                    f"tensor '{given}' of the weight update has shape {list(tensor.shape)}, but {self._architecture} expects "
                    f"{list(self._shapes[name])}"
                )
            if name not in brought:
                brought.add(name)
                yield name, tensor
        self._check_all_came(brought)

    def check_adapter(self, adapter: AdapterWeights) -> None:
        """Raises `ModelError` for a layer that the model does not have, and for matrices that do not go with its weight."""
        for layer, (down, up) in adapter.layers.items():
            name = self._names.get(f"{layer}.weight")
            if name is None:
                raise ModelError(
                    f"the adapter has a layer '{layer}' that {self._architecture} does not"
                    f"{did_you_mean(layer, [known.removesuffix('.weight') for known in self._names])}"
                )
            if (up.shape[0], down.shape[1]) != self._shapes[name] or up.shape[1] != down.shape[0]:
                raise ModelError(
                    f"the adapter's layer '{layer}' has matrices {list(down.shape)} and {list(up.shape)}, which do not go "
                    f"with a weight {list(self._shapes[name])} of {self._architecture}"
                )

    def _check_all_came(self, brought: set[str]) -> None:
        missing = [name for name in self._shapes if name not in brought]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ModelError(f"the weight update lacks tensor '{missing[0]}'{more} of {self._architecture}")
