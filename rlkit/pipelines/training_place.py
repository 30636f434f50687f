"""Where the models of a run are trained: in this process, in those of torchrun, or in workers that Ray starts.

placement.workers = 0            the backend itself
torchrun, 2 or more processes    a SpreadBackend over torchrun's ranks, of which this one is the first
placement.workers > 0            a SpreadBackend over Ray's workers; roles with workers of their own have another
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rlkit.cluster.peak_flops import PeakFlops, peak_flops
from rlkit.cluster.shipping import pack_files
from rlkit.cluster.spread_backend import SpreadBackend
from rlkit.cluster.versions import versions_of
from rlkit.cluster.weight_sync import DirectWeightSync
from rlkit.cluster.worker import WorkerDescription
from rlkit.config.runs import PPOConfig, SFTConfig
from rlkit.errors import ConfigError
from rlkit.pipelines.assembly import prepare_process
from rlkit.pipelines.placement import (
    backend_of,
    check_placement,
    placed_groups,
    shipped_names,
    torchrun_size,
    worker_distributions,
)
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import build_plugin
from rlkit.protocols import ActorBackend, ModelRole, RolloutEngine, WeightSync
from rlkit.protocols.actor import OptimizerSettings

if TYPE_CHECKING:
    from rlkit.cluster.ray_session import RaySession
    from rlkit.cluster.ray_workers import RayWorkerGroup
    from rlkit.cluster.torchrun_group import TorchrunGroup
    from rlkit.cluster.worker_group import WorkerGroup
    from rlkit.pipelines.assembly import LocatedModel
    from rlkit.pipelines.replicas import TrainingWorkers

MIB, GIB = 2**20, 2**30


class TrainingPlace:
    """Nothing is started before it is asked for. To be used as a context, which ends whatever was started.

    torchrun has started its processes already: they find each other when the context is entered, so that all of them hear
    how it ends.
    """

    def __init__(self, config: SFTConfig | PPOConfig, *, device: str) -> None:
        check_placement(config)
        self.config = config
        self._device = device
        self._groups: list[WorkerGroup] = []
        self._session: RaySession | None = None
        self._torchrun: TorchrunGroup | None = None

    def __enter__(self) -> TrainingPlace:
        if torchrun_size():
            from rlkit.cluster.torchrun_group import TorchrunGroup

            self._torchrun = TorchrunGroup(
                wait_for_ranks_s(self.config), device=self._device, call_timeout_s=self.config.cluster.call_timeout_s
            )
            self._groups.append(self._torchrun)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for group in self._groups:
            group.close()
        if self._session is not None:
            self._session.close()

    @property
    def on_ray(self) -> bool:
        return self.config.placement.workers > 0

    @property
    def num_workers(self) -> int:
        """Devices that the main model is spread over."""
        return self.config.placement.workers or torchrun_size() or 1

    @property
    def device(self) -> str:
        """What the models compute on: that of each worker, as it counts its GPUs, or this process's."""
        if self._session is None:
            return self._device
        wants_gpu = self.config.run.device.startswith("cuda")
        return "cuda:0" if wants_gpu or (self.config.run.device == "auto" and self._session.gpus > 0) else "cpu"

    def backend(self) -> ActorBackend:
        """Builds the models where they belong."""
        if self._torchrun is not None:
            self._torchrun.join(self._describe(self._device, ranks_here=self._torchrun.size))
            return self._spread(self._torchrun)
        groups = placed_groups(self.config)
        if not groups:
            name, options, where = backend_of(self.config)
            backend: ActorBackend = build_plugin(PluginKind.ACTOR_BACKEND, name, options, where=where)
            return backend
        self._start_workers()
        by_role = {
            role: self._spread(group)
            for placed, group in zip(groups, self._groups, strict=True)
            for role in placed.roles
        }
        main = self._spread(self._groups[0])
        return RoleBackends(main, by_role.get("critic", main), by_role.get("reference", main))

    def hybrid_engine(self, located: LocatedModel) -> RolloutEngine:
        """The rollout engine in the workers' own processes, a copy in each."""
        from rlkit.cluster.hybrid_transport import HybridTransport
        from rlkit.cluster.replica_pool import ReplicaPool
        from rlkit.cluster.replicated_engine import ReplicatedEngine
        from rlkit.cluster.restarts import RestartBudget
        from rlkit.pipelines.replica_settings import ReplicaSettings
        from rlkit.pipelines.replicas import describe_replica

        config, cluster = self._ppo(), self.config.cluster
        rollout, group = config.rollout, self._ray_groups()[0]
        settings = ReplicaSettings("rollout", rollout.engine, rollout.options, group.size, 1)
        description = describe_replica(
            settings, config.model, config.run, folder=located.folder, family=located.plugin.name,
            device=self.device, threads=0, lora_rank=config.actor.lora.rank,
        )  # fmt: skip
        pool = ReplicaPool(
            HybridTransport(group, description),
            group.size,
            RestartBudget(0, cluster.restart_window_s),
            start_timeout_s=cluster.start_timeout_s,
        )
        return ReplicatedEngine(
            pool, request_attempts=cluster.request_attempts, weight_chunk_bytes=cluster.weight_chunk_mb * MIB
        )

    def weight_sync(self) -> WeightSync:
        """How the actor's weights reach the engine."""
        if not self.on_ray:
            return DirectWeightSync()
        from rlkit.cluster.spread_weight_sync import HybridWeightSync, SharedWeightSync

        return HybridWeightSync() if self._ppo().rollout.placement == "in_process" else SharedWeightSync()

    def workers(self) -> TrainingWorkers | None:
        """What replicas in processes of their own must know of the training workers; None without any."""
        if self._session is None:
            return None
        from rlkit.pipelines.replicas import TrainingWorkers

        main = self._ray_groups()[0]
        count = sum(group.size for group in self._groups)
        return TrainingWorkers(count, main.placement_group, main.space.gpus_of_a_guest)

    def peak(self) -> PeakFlops:
        """Of all devices of the main model together. May measure one of them for a moment."""
        dtype, tflops = self.config.model.dtype, self.config.run.peak_tflops
        if not self._groups:
            return peak_flops(self._device, dtype, tflops=tflops)
        one: PeakFlops = self._groups[0].call("peak_flops", dtype, tflops)[0]
        return replace(one, flops=one.flops * self._groups[0].size)

    def _start_workers(self) -> None:
        from rlkit.cluster.ray_session import ClusterSettings, open_ray
        from rlkit.cluster.ray_workers import RayWorkerGroup, WorkerLimits, WorkerSpace

        cluster, groups = self.config.cluster, placed_groups(self.config)
        workers = sum(group.count for group in groups)
        replicas = 0
        if isinstance(self.config, PPOConfig) and self.config.rollout.placement != "in_process":
            replicas = self.config.rollout.replicas
        self._session = open_ray(
            ClusterSettings(
                cluster.address,
                num_cpus=workers + replicas,
                object_store_bytes=int(cluster.object_store_gb * GIB),
            )
        )
        on_gpus = self.device.startswith("cuda")
        self._check_room(workers, on_gpus=on_gpus)
        limits = WorkerLimits(cluster.start_timeout_s, cluster.silence_timeout_s, cluster.call_timeout_s)
        shared = replicas and self._ppo().rollout.placement == "colocated"
        for number, group in enumerate(groups):
            space = WorkerSpace(
                group.roles,
                group.count,
                gpus=on_gpus,
                nodes=group.nodes,
                guests=replicas if shared and not number else 0,
            )
            ray_group = RayWorkerGroup(self._session, space, limits)
            self._groups.append(ray_group)
            ray_group.join(self._describe(self.device, ranks_here=workers))

    def _check_room(self, workers: int, *, on_gpus: bool) -> None:
        """Raises `ConfigError` when the cluster could never place all workers."""
        assert self._session is not None
        has, what = (self._session.gpus, "GPUs") if on_gpus else (self._session.cpus, "CPUs")
        if has < workers:
            keys = " + ".join(f"{group.key} = {group.count}" for group in placed_groups(self.config))
            raise ConfigError(
                f"{keys} need{'s' if '+' not in keys else ''} {workers} {what}, and the cluster has {has:g}"
            )

    def _describe(self, device: str, *, ranks_here: int) -> WorkerDescription:
        """What each worker builds its models from."""
        config = self.config
        name, options, where = backend_of(config)
        return WorkerDescription(
            backend=name,
            options=options,
            where=where,
            family=config.model.family,
            device=device,
            threads=0 if device.startswith("cuda") else self._threads(ranks_here),
            seed=config.run.seed,
            timeout_s=wait_for_ranks_s(config),
            versions=versions_of(worker_distributions(config)),
            files=pack_files(shipped_names(config)),
            hub_ids=_hub_ids(config),
        )

    def _threads(self, ranks_here: int) -> int:
        """CPU threads of each worker: the user's number, or an equal share of the CPUs."""
        given = os.environ.get("OMP_NUM_THREADS", "")
        cpus = int(self._session.cpus) if self._session is not None else os.cpu_count() or 1
        return self.config.run.threads or (int(given) if given.isdigit() else 0) or max(1, cpus // ranks_here)

    def _spread(self, group: WorkerGroup) -> SpreadBackend:
        return SpreadBackend(group, chunk_bytes=self.config.cluster.weight_chunk_mb * MIB)

    def _ray_groups(self) -> list[RayWorkerGroup]:
        return self._groups  # type: ignore[return-value]

    def _ppo(self) -> PPOConfig:
        assert isinstance(self.config, PPOConfig)
        return self.config


def prepare_driver(config: SFTConfig | PPOConfig) -> str:
    """As `prepare_process`; a driver of workers on other devices needs none itself."""
    if config.placement.workers:
        return prepare_process(config.run.model_copy(update={"device": "cpu"}))
    return prepare_process(config.run)


def follow_leader(config: SFTConfig) -> None:
    """Serve torchrun's first process until it is done."""
    from rlkit.cluster.torchrun_group import follow

    check_placement(config)
    follow(wait_for_ranks_s(config), device=prepare_process(config.run))


def wait_for_ranks_s(config: SFTConfig | PPOConfig) -> float:
    """After which a rank gives up waiting for the others: later than the driver, who can say which one is to blame."""
    limit = config.cluster.call_timeout_s
    return limit + 60.0 if limit else NO_TIMEOUT_S


NO_TIMEOUT_S = 10 * 365 * 86400.0
"""torch.distributed wants a number."""


@dataclass(frozen=True)
class RoleBackends:
    """Implements `ActorBackend`: each role's models are built where the role is."""

    actor: ActorBackend
    critic: ActorBackend
    reference: ActorBackend

    def build_actor(self, role: ModelRole) -> Any:
        return self.actor.build_actor(role)

    def build_reference(self, role: ModelRole) -> Any:
        return self.reference.build_reference(role)

    def build_moving_reference(self, role: ModelRole) -> Any:
        return self.reference.build_moving_reference(role)

    def build_critic(self, role: ModelRole) -> Any:
        return self.critic.build_critic(role)

    def build_actor_critic(self, role: ModelRole, *, head: OptimizerSettings) -> Any:
        return self.actor.build_actor_critic(role, head=head)

    def build_supervised(self, role: ModelRole) -> Any:
        return self.actor.build_supervised(role)


def _hub_ids(config: SFTConfig | PPOConfig) -> dict[str, str]:
    """Where models of the Hub lie on this machine -> what they are called there."""
    from rlkit.models.locate import locate_model

    paths = [config.model.path]
    if isinstance(config, PPOConfig):
        paths += [config.critic.path, config.reference.path]
    found = {}
    for path in filter(None, paths):
        if not Path(path).expanduser().exists():
            found[str(locate_model(path).resolve())] = path
    return found
