"""One rank of a training group: a process that holds its share of the models, and what is asked of it.

Nothing heavy is imported before `join`, so that the environment guards are there first.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlkit.cluster.environment import set_environment_guards
from rlkit.cluster.shipping import ShippedFolder, unpacked_name
from rlkit.cluster.versions import check_versions
from rlkit.errors import ClusterError, RLKitError
from rlkit.plugin.references import describe_error

if TYPE_CHECKING:
    from rlkit.cluster.replica import ReplicaDescription, ReplicaInfo, ReplicaState
    from rlkit.cluster.weight_chunks import WeightChunk
    from rlkit.protocols import ModelRole, PendingSave
    from rlkit.protocols.actor import RowShare


@dataclass(frozen=True)
class WorkerDescription:
    """Everything that a worker needs besides its rank; names and paths, no models.

    backend, options  the actor backend plugin and its own options; `where` is their config path, for messages
    family            `model.family`: auto, a plugin's name or a reference
    device            cpu, or cuda:N as this worker counts its GPUs
    threads           of CPU arithmetic; 0 leaves torch's choice
    seed              the same on all ranks
    timeout_s         after which a rank that waits for the others gives up
    versions          distribution -> version that the worker must have
    files             plugin name -> the folder of its file, for plugins given as `file.py:attribute`
    hub_ids           folder on the driver -> Hub id, for models of the Hub
    """

    backend: str
    options: Mapping[str, Any]
    where: str
    family: str
    device: str
    threads: int
    seed: int
    timeout_s: float
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, ShippedFolder] = field(default_factory=dict)
    hub_ids: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerPlace:
    """Where a worker runs. node_id is what Ray calls the node; empty without Ray."""

    node: str
    address: str
    pid: int
    node_id: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.node}"


@dataclass(frozen=True)
class SaveState:
    """is_done: nothing is written any more; failure: why the files are not whole, in words.

    files  what this rank has written so far, where its backend tells: path below the folder -> bytes
    node   where it runs
    """

    is_done: bool
    failure: str = ""
    files: Mapping[str, int] = field(default_factory=dict)
    node: str = ""


class TrainingWorker:
    """Its methods are called by the driver, one at a time, the same ones in the same order on every rank.

    `health` and `save_is_done` may be called at any time, from another thread, and answer at once. own_device takes the place
    of the description's.
    """

    def __init__(self, rank: int, size: int, *, own_device: str = "") -> None:
        self._rank, self._size, self._own_device = rank, size, own_device
        self._description: WorkerDescription | None = None
        self._backend: Any = None
        self._models: dict[str, Any] = {}
        self._exports: dict[str, Iterator[WeightChunk]] = {}
        self._saves: dict[str, _SaveUnderWay] = {}
        self._engine: Any = None
        self._calls = _CallRecord()
        set_environment_guards()

    def place(self, address: str = "", node_id: str = "") -> WorkerPlace:
        return WorkerPlace(socket.gethostname(), address, os.getpid(), node_id)

    def new_rendezvous(self, address: str) -> str:
        """Where all ranks can find each other; asked of rank 0."""
        from rlkit.cluster.process_group import free_port

        return f"tcp://{address}:{free_port(address)}"

    def join(self, description: WorkerDescription, rendezvous: str, address: str) -> WorkerPlace:
        """Become a rank of the group, with the backend built. Raises `ClusterError` on a node with other versions."""
        place = self.place(address)
        if self._own_device:
            description = replace(description, device=self._own_device)
        check_versions(description.versions, node=place.node)
        import torch

        from rlkit.cluster.process_group import join_process_group
        from rlkit.plugin import PluginKind
        from rlkit.plugin.loader import build_plugin
        from rlkit.tracking.random_state import seed_generators

        if description.threads:
            torch.set_num_threads(description.threads)
        seed_generators(description.seed)
        on_gpu = description.device.startswith("cuda")
        if on_gpu:
            torch.cuda.set_device(description.device)
        join_process_group(
            rendezvous,
            rank=self._rank,
            size=self._size,
            address=address,
            gpus=on_gpu,
            timeout_s=description.timeout_s,
        )
        import_shipped_files(description.files)
        name = unpacked_name(description.backend, description.files.get(description.backend))
        self._backend = build_plugin(PluginKind.ACTOR_BACKEND, name, description.options, where=description.where)
        self._description = description
        return place

    def row_share(self) -> RowShare:
        """Which rows of a batch this rank works on: rows of its own, unless the backend says otherwise."""
        from rlkit.protocols.actor import RowShare, SharesRows

        if isinstance(self._backend, SharesRows):
            return self._backend.row_share()
        return RowShare(index=self._rank, count=self._size)

    def build(self, name: str, method: str, role: ModelRole, keywords: Mapping[str, Any]) -> None:
        """`backend.method(role, **keywords)` becomes the model `name`; the role comes without its family and device."""
        with self._calls.noted(f"build {name}"):
            self._models[name] = getattr(self._backend, method)(self._role_here(role), **keywords)

    def call(
        self,
        name: str,
        method: str,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        is_wanted: bool = True,
    ) -> Any:
        """What a model's method returns; None where the driver has no use for this rank's."""
        with self._calls.noted(f"{name}.{method}"):
            found = getattr(self._models[name], method)(*arguments, **keywords)
        return found if is_wanted else None

    def find_base_policy(self, name: str, base_name: str) -> bool:
        """Whether the model has a policy without its adapter; if so it is the model `base_name` from here on."""
        found = self._models[name].base_policy()
        if found is None:
            return False
        self._models[base_name] = found
        return True

    def offers(self, name: str, attribute: str) -> bool:
        """Whether a model has an optional method."""
        return getattr(self._models[name], attribute, None) is not None

    def update_from(self, name: str, source: str, keywords: Mapping[str, Any]) -> None:
        """A model that follows another of the same group takes over its weights, without leaving this process."""
        with self._calls.noted(f"{name}.update_weights"):
            self._models[name].update_weights(self._models[source].export_weights(), **keywords)

    def update_weights(self, name: str, keywords: Mapping[str, Any], chunks: Iterable[WeightChunk]) -> None:
        """As `update_from`, with weights that came from elsewhere; one chunk is read after the other."""
        from rlkit.cluster.weight_chunks import tensors_of

        tensors = (entry for chunk in chunks for entry in tensors_of(chunk))
        with self._calls.noted(f"{name}.update_weights"):
            self._models[name].update_weights(tensors, **keywords)

    def begin_export(self, name: str, max_bytes: int) -> None:
        """`next_chunk` gives a model's weights from the beginning."""
        from rlkit.cluster.weight_chunks import passed_over_chunks, weight_chunks

        pieces = weight_chunks if self._rank == 0 else passed_over_chunks
        self._exports[name] = iter(pieces(self._models[name].export_weights(), max_bytes))

    def next_chunk(self, name: str) -> tuple[bool, WeightChunk | None]:
        """Whether there was one more piece, and on rank 0 the piece."""
        with self._calls.noted(f"{name}.export_weights"):
            chunk = next(self._exports[name], None)
        if chunk is None:
            del self._exports[name]
        return chunk is not None, chunk if self._rank == 0 else None

    def save_adapter(self, name: str, folder: str) -> str:
        """Why this rank could not write the model's adapter, in words; empty when it did, or had nothing to write."""
        from safetensors import SafetensorError

        with self._calls.noted(f"{name}.save_adapter"):
            try:
                self._models[name].save_adapter(Path(folder))
            except (OSError, SafetensorError) as error:
                return describe_error(error)
        return ""

    def begin_save(self, name: str, folder: str) -> None:
        """Copy a model's state and write this rank's files while training goes on."""
        with self._calls.noted(f"{name}.begin_save"):
            self._saves[name] = _SaveUnderWay(self._models[name].begin_save(Path(folder)))

    def save_is_done(self, name: str) -> SaveState:
        """Whether this rank still writes its files. One that failed is told, not raised: the rank itself goes on."""
        return self._saves[name].state()

    def peak_flops(self, dtype: str, tflops: float) -> Any:
        """As `rlkit.cluster.peak_flops.peak_flops`, of this worker's device."""
        from rlkit.cluster.peak_flops import peak_flops

        assert self._description is not None
        return peak_flops(self._description.device, dtype, tflops=tflops)

    def place_engine(self, description: ReplicaDescription) -> None:
        """A rollout engine beside the models of this rank; built by its `set_up`."""
        from rlkit.cluster.hybrid_replica import HybridReplica

        self._engine = HybridReplica(description, self._models)

    def set_up_engine(self, state: ReplicaState) -> ReplicaInfo:
        info: ReplicaInfo = self.call_engine("set_up", (state,))
        return info

    def call_engine(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """As `rlkit.cluster.replica.EngineReplica`."""
        with self._calls.noted(f"engine.{method}"):
            return getattr(self._engine, method)(*arguments)

    def health(self) -> str:
        """What this rank is doing, for whoever waits: the call, and the line of the program that it is at."""
        return self._calls.describe()

    def close(self) -> None:
        from rlkit.cluster.process_group import leave_process_group

        if self._engine is not None:
            self._engine.close()
        self._models.clear()
        leave_process_group()

    def _role_here(self, role: ModelRole) -> ModelRole:
        from rlkit.models.locate import locate_model
        from rlkit.models.registry import find_family

        assert self._description is not None
        path = role.path
        if not path.is_dir():
            hub_id = self._description.hub_ids.get(str(path))
            if not hub_id:
                raise ClusterError(
                    f"node {socket.gethostname()} has no folder {path}; put the model on a file system that all nodes "
                    "share, or give a Hub id"
                )
            path = locate_model(hub_id, trust_remote_code=role.trust_remote_code)
        family = unpacked_name(self._description.family, self._description.files.get(self._description.family))
        return replace(role, path=path, family=find_family(path, family=family), device=self._description.device)


def import_shipped_files(files: Mapping[str, ShippedFolder]) -> None:
    """Import the user's files under the names of their modules on the driver, which objects that come from there go by."""
    from rlkit.plugin.references import file_module_name, load_reference

    for name, shipped in files.items():
        load_reference(unpacked_name(name, shipped))
        file = Path(name.rpartition(":")[0]).name
        here = sys.modules[file_module_name(shipped.unpacked() / file)]
        sys.modules.setdefault(file_module_name(Path(shipped.folder) / file), here)


class _SaveUnderWay:
    """Waits for a pending save in a thread of its own, so that one can ask."""

    def __init__(self, pending: PendingSave) -> None:
        self._pending = pending
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._wait, name="pending save", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        try:
            self._pending.wait()
        except BaseException as error:
            self._error = error

    def state(self) -> SaveState:
        """At once."""
        from rlkit.protocols import ListsFiles

        is_done, failure = not self._thread.is_alive(), ""
        if self._error is not None:
            failure = str(self._error) if isinstance(self._error, RLKitError) else describe_error(self._error)
        files = self._pending.written() if isinstance(self._pending, ListsFiles) else {}
        return SaveState(is_done, failure, files, socket.gethostname())


class _CallRecord:
    """Which call is going on, in which thread."""

    def __init__(self) -> None:
        self._now: tuple[str, int, float] | None = None

    def noted(self, what: str) -> _NotedCall:
        return _NotedCall(what, self._set)

    def _set(self, now: tuple[str, int, float] | None) -> None:
        self._now = now

    def describe(self) -> str:
        now = self._now
        if now is None:
            return "waiting for the driver"
        what, thread, since = now
        frame = sys._current_frames().get(thread)
        place = traceback.extract_stack(frame, limit=1) if frame is not None else []
        line = f" at {Path(place[-1].filename).name}:{place[-1].lineno} ({place[-1].name})" if place else ""
        return f"in {what} for {time.monotonic() - since:.0f} s{line}"


@dataclass
class _NotedCall:
    what: str
    tell: Callable[[tuple[str, int, float] | None], None]

    def __enter__(self) -> None:
        self.tell((self.what, threading.get_ident(), time.monotonic()))

    def __exit__(self, *error: object) -> None:
        self.tell(None)
