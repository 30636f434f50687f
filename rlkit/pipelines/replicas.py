"""From the config to replicas of a rollout engine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlkit.cluster.ray_session import ClusterSettings, RaySession, open_ray
from rlkit.cluster.ray_transport import RayTransport
from rlkit.cluster.replica import ReplicaDescription
from rlkit.cluster.replica_pool import ReplicaPool
from rlkit.cluster.replicated_engine import ReplicatedEngine
from rlkit.cluster.restarts import RestartBudget
from rlkit.cluster.shipping import pack_files
from rlkit.cluster.versions import versions_of
from rlkit.cluster.visible_gpus import visible_gpus
from rlkit.config.cluster_section import ClusterSection
from rlkit.config.sections import ModelSection, RunSection
from rlkit.errors import ConfigError
from rlkit.pipelines.replica_settings import ReplicaSettings
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import find_plugin
from rlkit.plugin.references import is_reference

MIB, GIB = 2**20, 2**30


@dataclass(frozen=True, eq=False)
class TrainingWorkers:
    """What trains on the same cluster: `count` devices; `placement_group` is Ray's, for replicas that share them."""

    count: int
    placement_group: Any
    gpus_of_a_guest: float


def build_replicated_engine(
    settings: ReplicaSettings,
    cluster: ClusterSection,
    model: ModelSection,
    run: RunSection,
    *,
    folder: Path,
    family: str,
    device: str,
    lora_rank: int = 0,
    workers: TrainingWorkers | None = None,
) -> ReplicatedEngine:
    """The engine over its replicas, all of them ready.

    lora_rank  largest rank of the adapters that they may be sent
    folder     and family are the located model's
    device     what the driver computes on: cpu, cuda:N, or auto where the driver computes nothing and the replicas take
               GPUs if the cluster has any
    workers    that train on the same cluster, if any; the driver then computes nothing

    Raises `ConfigError` when the cluster has fewer devices than are asked for.
    """
    session = open_ray(
        ClusterSettings(
            cluster.address,
            num_cpus=settings.replicas,
            object_store_bytes=int(cluster.object_store_gb * GIB),
            visible_gpus=gpus_for_ray(settings, device) if workers is None else None,
        )
    )
    try:
        on_gpus = device.startswith("cuda") or (device == "auto" and session.gpus > 0)
        taken = 0 if workers is None else workers.count
        check_room(settings, cpus=session.cpus - taken, gpus=session.gpus - taken, on_gpus=on_gpus)
        threads = 0 if on_gpus else threads_of_a_replica(run, settings.replicas + taken, cpus=session.cpus)
        description = describe_replica(
            settings,
            model,
            run,
            folder=folder,
            family=family,
            device="cuda:0" if on_gpus else "cpu",
            threads=threads,
            lora_rank=lora_rank,
        )
        shares_driver_s = on_gpus and settings.shares_device and workers is None
        transport = _transport(session, description, settings, device, workers, on_gpus=on_gpus)
        pool = ReplicaPool(
            transport,
            settings.replicas,
            RestartBudget(cluster.max_restarts, cluster.restart_window_s),
            start_timeout_s=cluster.start_timeout_s,
            request_timeout_s=cluster.request_timeout_s,
            silence_timeout_s=cluster.silence_timeout_s,
        )
        return ReplicatedEngine(
            pool,
            request_attempts=cluster.request_attempts,
            weight_chunk_bytes=cluster.weight_chunk_mb * MIB,
            shared_device=f"cuda:{device_index(device)}" if shares_driver_s else None,
        )
    except BaseException:
        session.close()
        raise


def _transport(
    session: RaySession,
    description: ReplicaDescription,
    settings: ReplicaSettings,
    device: str,
    workers: TrainingWorkers | None,
    *,
    on_gpus: bool,
) -> RayTransport:
    if workers is not None and settings.shares_device:
        return RayTransport(session, description, gpus=workers.gpus_of_a_guest, beside=workers.placement_group)
    shares = on_gpus and settings.shares_device
    return RayTransport(
        session,
        description,
        gpus=settings.devices_per_replica if on_gpus and not shares else 0,
        environment=environment_on_own_device(device) if shares else None,
        on_this_node=shares,
    )


def describe_replica(
    settings: ReplicaSettings,
    model: ModelSection,
    run: RunSection,
    *,
    folder: Path,
    family: str,
    device: str,
    threads: int,
    lora_rank: int = 0,
) -> ReplicaDescription:
    """What every worker builds its engine from, with the user's own files and the versions that it must have."""
    names = (settings.engine, family)
    kinds = (PluginKind.ROLLOUT_ENGINE, PluginKind.MODEL_FAMILY)
    installed = [find_plugin(kind, name) for kind, name in zip(kinds, names, strict=True) if not is_reference(name)]
    return ReplicaDescription(
        engine=settings.engine,
        options=settings.options,
        where=f"{settings.name}.options",
        folder=str(folder.resolve()),
        hub_id="" if Path(model.path).expanduser().exists() else model.path,
        family=family,
        tokenizer=_absolute(model.tokenizer),
        chat_template=_absolute(model.chat_template),
        trust_remote_code=model.trust_remote_code,
        dtype=model.dtype,
        device=device,
        seed=run.seed,
        threads=threads,
        versions=versions_of(plugin.distribution for plugin in installed),
        files=pack_files(names),
        lora_rank=lora_rank,
    )


def check_room(settings: ReplicaSettings, *, cpus: float, gpus: float, on_gpus: bool) -> None:
    """Raises `ConfigError` when the cluster could never place all replicas, which would otherwise wait for ever."""
    name, replicas, each = settings.name, settings.replicas, settings.devices_per_replica
    if not on_gpus and each > 1:
        raise ConfigError(f"{name}.devices_per_replica = {each} counts GPUs, and this run is on the CPU; set it to 1")
    if cpus < replicas:
        raise ConfigError(f"{name}.replicas = {replicas}, but the cluster has {cpus:g} CPUs: one for each is the least")
    if on_gpus and not settings.shares_device and gpus < replicas * each:
        own = ", besides the one that trains," if name == "rollout" else ""
        raise ConfigError(
            f"{name}.replicas = {replicas} x {name}.devices_per_replica = {each} need {replicas * each} GPUs, and the "
            f"cluster has {gpus:g}{own} for them; lower one of the two"
        )


def threads_of_a_replica(run: RunSection, replicas: int, *, cpus: float) -> int:
    """CPU threads of each replica: the user's number, or an equal share of the CPUs."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return run.threads or (int(given) if given.isdigit() else 0) or max(1, int(cpus) // replicas)


def environment_on_own_device(device: str) -> dict[str, str]:
    """Variables with which a worker sees the driver's GPU, which Ray has not given to it."""
    return {
        "CUDA_VISIBLE_DEVICES": visible_gpus()[device_index(device)],
        "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1",
    }


def gpus_for_ray(settings: ReplicaSettings, device: str) -> tuple[str, ...] | None:
    """The GPUs besides the one that trains, where replicas have their own; None: all."""
    if settings.name != "rollout" or settings.shares_device or not device.startswith("cuda"):
        return None
    return tuple(name for index, name in enumerate(visible_gpus()) if index != device_index(device))


def device_index(device: str) -> int:
    """`cuda:1` -> 1, `cuda` -> 0."""
    return int(device.partition(":")[2] or 0)


def _absolute(path: str) -> str:
    """Paths are the driver's; a Hub id stays what it is."""
    found = Path(path).expanduser()
    return str(found.resolve()) if path and found.exists() else path
