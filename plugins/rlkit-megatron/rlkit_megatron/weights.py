"""The weights of a spread model under their Hugging Face names: what each process has of them, in and out, one at a time.

folder  --each process reads its slice of one tensor--> float32 values of one parameter after the other
parameter --gathered over the slices--> the whole tensor on every process, one after the other
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from rlkit.errors import CheckpointError, ModelError
from rlkit.models.safetensors_io import read_headers
from rlkit.models.state_files import TensorPart
from rlkit.models.state_slices import Slice, read_slices, saved_shapes
from rlkit.models.suggestion import did_you_mean
from rlkit_megatron.parallel import Parallel
from rlkit_megatron.places import Place
from rlkit_megatron.recipes import Recipe

SCORE = "score.weight"
Values = Iterator[tuple[nn.Parameter, Tensor]]
"""Parameters of this process with numbers in their shapes, float32, one at a time."""


@dataclass(frozen=True, eq=False)
class Held:
    """A Hugging Face tensor, or this process's slice of it, as a place in a parameter.

    pieces, piece  into how many slices `place.cut_dim` is cut, and which one this process has
    rows           of the whole tensor, where the last slice has fewer than the others
    """

    place: Place
    parameter: nn.Parameter
    pieces: int
    piece: int
    is_expert: bool
    rows: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole tensor."""
        here = list(self.place.shape_in(self.parameter))
        if self.place.cut_dim is not None:
            here[self.place.cut_dim] *= self.pieces
        if self.rows is not None:
            here[0] = self.rows
        return tuple(here)

    @property
    def offsets(self) -> list[int]:
        """Where the slice starts in the whole tensor."""
        here = list(self.place.shape_in(self.parameter))
        if self.rows is not None:
            here[0] = self.parameter.shape[0]
        return [self.piece * size if dim == self.place.cut_dim else 0 for dim, size in enumerate(here)]

    def slice_of(self, whole: Any) -> Any:
        """This process's slice of a whole tensor, or of a safetensors slice of one, which is read no further."""
        here = self.place.shape_in(self.parameter)
        return whole[tuple(slice(start, start + size) for start, size in zip(self.offsets, here, strict=True))]


@dataclass(frozen=True)
class _Owner:
    """Who has a tensor: ranks in the order of their slices; stage: of the pipeline."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    cut_dim: int | None
    ranks: tuple[int, ...]
    stage: int


class SpreadWeights:
    """The Hugging Face tensors of a model's parts on this process, and who has which on the others. Made collectively."""

    def __init__(self, parts: list[Any], recipe: Recipe, config: Any, parallel: Parallel) -> None:
        self.parallel = parallel
        self.held = [held for part in parts for held in _held(part, recipe, config, parallel)]
        self._by_name: dict[str, list[Held]] = {}
        for held in self.held:
            _mark(held)
            self._by_name.setdefault(held.place.name, []).append(held)
        found = [
            owner for owners in parallel.gather([_owner(held, parallel) for held in self.held]) for owner in owners
        ]
        self.owners: dict[str, _Owner] = {}
        for owner in found:
            self.owners.setdefault(owner.name, owner)
        self._written = self._find_written(_choose_writers(found))

    def _find_written(self, writers: Mapping[str, tuple[int, ...]]) -> dict[nn.Parameter, list[Held]]:
        """What this process writes of each parameter when all write: each slice of each tensor is somebody's, once."""
        mine: dict[nn.Parameter, list[Held]] = {}
        for name, places in self._by_name.items():
            if self.parallel.rank in writers[name]:
                mine.setdefault(places[0].parameter, []).append(places[0])
        return mine

    def read(self, folder: Path) -> Values:
        """Of safetensors with Hugging Face names, of which only this process's slices are read.

        Raises `ModelError` for a tensor that is missing, unknown or has another shape. `score.weight` may be missing: its
        parameter does not come then.
        """
        headers = read_headers(folder)
        self._check_names(headers, where=f"'{folder}'")
        files: dict[str, list[Held]] = {}
        for name, places in self._by_name.items():
            if name in headers:
                files.setdefault(headers[name].file, []).extend(places)
        yield from self._put_together(_stored_slices(folder, files))

    def _put_together(self, slices: Iterable[tuple[Held, Tensor]]) -> Values:
        """A parameter comes when all of its tensors have: few of them are under way at a time."""
        begun: dict[nn.Parameter, Tensor] = {}
        missing = Counter(held.parameter for held in self.held)
        for held, piece in slices:
            parameter = held.parameter
            if parameter not in begun:
                begun[parameter] = torch.zeros_like(parameter, dtype=torch.float32, requires_grad=False)
            held.place.write(begun[parameter], piece)
            missing[parameter] -= 1
            if not missing[parameter]:
                yield parameter, begun.pop(parameter)

    def assign(
        self, named_tensors: Iterable[tuple[str, Tensor]], *, where: str, write: Callable[[Held, Tensor], None]
    ) -> None:
        """Hand this process's slices of full tensors, as `export` gives them, to `write`, one at a time.

        Raises `ModelError` as `load` does.
        """
        arrived: set[str] = set()
        for name, tensor in named_tensors:
            arrived.add(name)
            for held in self._by_name.get(name, ()):
                _check_shape(held, tuple(tensor.shape), where=where)
                write(held, held.slice_of(tensor))
        self._check_names(arrived, where=where)

    def written_slices(
        self, values: Iterable[tuple[nn.Parameter, Tensor]], *, suffix: str = ""
    ) -> dict[str, TensorPart]:
        """What this process writes when all write: copies on the CPU, by name and `suffix`.

        No more than one of `values` is in device memory twice.
        """
        return {
            f"{held.place.name}{suffix}": TensorPart(
                held.place.read(value).to("cpu").contiguous(), held.offsets, held.shape
            )
            for parameter, value in values
            for held in self._written.get(parameter, ())
        }

    def restored(self, folder: Path, *, otherwise: str, suffix: str = "") -> Values:
        """Of the `written_slices` of all processes, in any layout; `suffix` follows the names in the files.

        Raises `CheckpointError` when names or shapes differ; `otherwise` says what that means and what to do.
        """
        unknown = sorted(
            name
            for name in saved_shapes(folder)
            if name.endswith(suffix) and name.removesuffix(suffix) not in self.owners
        )
        if unknown:
            raise CheckpointError(f"{otherwise} ('{unknown[0]}' in '{folder}' is no tensor of it)")
        # Tied tensors are in several places of a pipeline's parameters.
        wanted = {
            f"{held.place.name}{suffix}": Slice(held.offsets, held.place.shape_in(held.parameter), held.shape)
            for held in self.held
        }
        slices = (
            (held, piece)
            for name, piece in read_slices(folder, wanted, otherwise=otherwise)
            for held in self._by_name[name.removesuffix(suffix)]
        )
        yield from self._put_together(slices)

    def export(
        self, values_of: Callable[[nn.Parameter], Tensor] = Tensor.detach, *, dtype: torch.dtype | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Names and full tensors, the same on every process, tied ones once. Collective.

        values_of gives what is exported of a parameter, in its shape and in `dtype` (None: the parameter's); it may be
        collective over the copies of the model.
        """
        latest: tuple[nn.Parameter, Tensor] | None = None
        for name, owner in self.owners.items():
            here = next(iter(self._by_name.get(name, ())), None)
            if here is not None and (latest is None or latest[0] is not here.parameter):
                latest = None  # before the next one is made
                latest = (here.parameter, values_of(here.parameter))
            values = latest[1] if here is not None and latest is not None else None
            yield name, self._whole(owner, here, values, dtype or owner.dtype)

    @torch.no_grad()
    def _whole(self, owner: _Owner, here: Held | None, values: Tensor | None, dtype: torch.dtype) -> Tensor:
        """A copy of one tensor, `values` being those of the parameter that it is `here` a part of. Collective."""
        mine: Tensor | None = None
        if here is not None and values is not None and self.parallel.rank in owner.ranks:
            mine = here.place.read(values)
        if mine is not None and owner.cut_dim is not None and len(owner.ranks) > 1:
            group = self._group_of(here)
            assert here is not None and values is not None
            if here.rows is not None:
                mine = values  # slices of one size, which the last one's padding ends
            parts = [torch.empty_like(mine) for _ in owner.ranks]
            dist.all_gather(parts, mine.contiguous(), group=group)
            mine = torch.cat(parts, dim=owner.cut_dim)
            mine = mine if here.rows is None else mine[: here.rows]
        if self.parallel.size == 1:
            assert mine is not None
            return mine
        if mine is None:
            mine = torch.empty(owner.shape, dtype=dtype, device=self.parallel.device)
        mine = mine.contiguous()
        dist.broadcast(mine, owner.ranks[0])
        return mine

    def _group_of(self, held: Held | None) -> Any:
        state = self.parallel.state
        if held is not None and held.is_expert:
            return state.get_expert_tensor_parallel_group()
        return state.get_tensor_model_parallel_group()

    def _check_names(self, found: Iterable[str], *, where: str) -> None:
        found = set(found)
        missing = [name for name in self.owners if name not in found and name != SCORE]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ModelError(f"{where} lacks tensor '{missing[0]}'{more} of the model")
        # A head that is tied or that a value model has no use for, and frequencies that are computed.
        ignored = ("lm_head.weight", SCORE)
        unknown = sorted(
            name for name in found - self.owners.keys() if name not in ignored and not name.endswith("inv_freq")
        )
        if unknown:
            raise ModelError(
                f"{where} has a tensor '{unknown[0]}' that the model does not{did_you_mean(unknown[0], self.owners)}"
            )


def _stored_slices(folder: Path, files: Mapping[str, Sequence[Held]]) -> Iterator[tuple[Held, Tensor]]:
    """This process's slices of the tensors in safetensors files. Raises `ModelError`."""
    for file, places in files.items():
        try:
            with safe_open(folder / file, framework="pt", device="cpu") as stored:
                for held in places:
                    whole = stored.get_slice(held.place.name)
                    _check_shape(held, tuple(whole.get_shape()), where=f"'{folder}'")
                    yield held, held.slice_of(whole)
        except SafetensorError as error:
            raise ModelError(f"'{folder / file}' is not a whole safetensors file: {error}") from error


def _held(part: Any, recipe: Recipe, config: Any, parallel: Parallel) -> Iterator[Held]:
    state = parallel.state
    for name, parameter in part.named_parameters():
        is_expert = ".experts." in name
        if is_expert:
            size, rank = state.get_expert_tensor_parallel_world_size(), state.get_expert_tensor_parallel_rank()
        else:
            size, rank = state.get_tensor_model_parallel_world_size(), state.get_tensor_model_parallel_rank()
        for place in recipe.places_of(_global_name(name, part, config, parallel), config):
            cut = place.cut_dim is not None
            rows = config.vocab_size if place.is_vocabulary else None
            if rows is not None:
                parameter.data.zero_()  # tokens that there are not
                place = place.with_rows(min(parameter.shape[0], rows - rank * parameter.shape[0]))
            yield Held(place, parameter, size if cut else 1, rank if cut else 0, is_expert, rows)


def _mark(held: Held) -> None:
    """megatron-core marks cut parameters only when it draws them at random; norms of gradients would count one slice."""
    if held.place.cut_dim is not None and not getattr(held.parameter, "tensor_model_parallel", False):
        marks = {"tensor_model_parallel": True, "partition_dim": held.place.cut_dim, "partition_stride": 1}
        for name, value in marks.items():
            setattr(held.parameter, name, value)


def _global_name(name: str, part: Any, config: Any, parallel: Parallel) -> str:
    """With the numbers that layers and experts have in the whole model."""
    match = re.match(r"decoder\.layers\.(\d+)\.", name)
    if match is not None:
        layer = part.decoder.layers[int(match[1])].layer_number - 1
        name = f"decoder.layers.{layer}.{name[match.end() :]}"
    match = re.search(r"\.local_experts\.(\d+)\.", name)
    if match is not None:
        each = part.config.num_moe_experts // parallel.options.expert_parallel
        number = int(match[1]) + each * parallel.state.get_expert_model_parallel_rank()
        name = f"{name[: match.start()]}.local_experts.{number}.{name[match.end() :]}"
    return name


def _owner(held: Held, parallel: Parallel) -> _Owner:
    state = parallel.state
    group = state.get_expert_tensor_parallel_group() if held.is_expert else state.get_tensor_model_parallel_group()
    ranks = tuple(dist.get_process_group_ranks(group))
    stage = state.get_pipeline_model_parallel_rank()
    return _Owner(held.place.name, held.shape, held.parameter.dtype, held.place.cut_dim, ranks, stage)


def _choose_writers(found: Sequence[_Owner]) -> dict[str, tuple[int, ...]]:
    """The ranks that write a tensor, one for each of its slices: of those that have it the ones with the least to write.

    found: what every process says that it has, in the order of ranks, so that all of them choose alike.
    """
    first: dict[str, _Owner] = {}
    candidates: dict[str, dict[tuple[int, ...], None]] = {}
    for owner in found:
        # A tied tensor is in two stages: the first one's is as good.
        if owner.stage == first.setdefault(owner.name, owner).stage:
            groups = [owner.ranks] if owner.cut_dim is not None else [(rank,) for rank in owner.ranks]
            candidates.setdefault(owner.name, {}).update(dict.fromkeys(groups))
    elements: Counter[int] = Counter()
    chosen: dict[str, tuple[int, ...]] = {}
    for name, groups_of_one in candidates.items():
        chosen[name] = ranks = min(groups_of_one, key=lambda ranks: elements[ranks[0]])
        for rank in ranks:
            elements[rank] += math.prod(first[name].shape) // len(ranks)
    return chosen


def _check_shape(held: Held, found: tuple[int, ...], *, where: str) -> None:
    if tuple(found) != held.shape:
        raise ModelError(
            f"tensor '{held.place.name}' of {where} has shape {list(found)}, but the model expects {list(held.shape)}"
        )
