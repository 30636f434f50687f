"""A reward model that is several: each batch is judged by whichever replica is free.

Batches are made by the caller and not cut here, so the numbers are those of one model, bit for bit on like machines.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace

from rlkit.cluster.ray_session import ClusterSettings, RaySession, open_ray
from rlkit.cluster.ray_transport import RayTransport
from rlkit.cluster.replica_pool import ReplicaPool
from rlkit.cluster.requests import Chunk, Request
from rlkit.cluster.restarts import RestartBudget
from rlkit.cluster.score_replica import ScoreDescription, ScoreReplica
from rlkit.errors import ConfigError, RewardError
from rlkit.models.score_model import TokenRow
from rlkit.rollout.answered import reason_of

ATTEMPTS = 3
"""Replicas that a batch may bring down before it is given up."""

RESTART_WINDOW_S = 600.0


class ReplicatedScores:
    """Numbers from the replicas of a pool, which has `ScoreReplica`s and asks their method `score`."""

    def __init__(self, pool: ReplicaPool) -> None:
        """Starts the replicas. Raises what is wrong with the model, or `ClusterError` when they do not start."""
        self._pool = pool
        self._is_open = True
        try:
            pool.start()
        except BaseException:
            pool.close()
            raise

    def logits(self, batches: Sequence[Sequence[TokenRow]]) -> list[list[list[float]]]:
        """For each batch what `ScoreModel.logits` returns. A replica that dies costs no batch.

        Raises `RewardError` for a batch that no replica survives, and `ClusterError` when no replica is left.
        """
        self._pool.forget_answers()  # of an earlier call that was broken off
        waiting = deque(range(len(batches)))
        attempts: Counter[int] = Counter()
        scored: dict[int, list[list[float]]] = {}
        while len(scored) < len(batches):
            for slot, number in zip(self._pool.idle_slots(), list(waiting), strict=False):
                waiting.popleft()
                self._pool.hand_out(slot, Chunk((Request(0, (number,), number),)), batches[number])
            for done in self._pool.finished():
                (number,) = done.chunk.positions
                if done.error is None:
                    scored[number] = done.answers
                    continue
                attempts[number] += 1
                if not done.lost:
                    raise done.error
                if attempts[number] >= ATTEMPTS:
                    raise RewardError(
                        f"{len(batches[number])} answers brought down {ATTEMPTS} replicas of the reward model and were "
                        f"given up: {reason_of(done.error)}"
                    )
                waiting.appendleft(number)
        return [scored[number] for number in range(len(batches))]

    @property
    def num_restarts(self) -> int:
        return self._pool.num_restarts

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._pool.close()


def start_score_replicas(
    description: ScoreDescription,
    *,
    count: int,
    gpus: float,
    max_restarts: int,
    start_timeout_s: float,
    silence_timeout_s: float,
    section: str,
) -> ReplicatedScores:
    """`count` replicas on the Ray that the run uses, or on one that is started for them; ready for work.

    gpus     that each takes where `description.device` is cuda, or auto and Ray has any
    section  config path of the settings, for messages

    They reserve no CPUs: the run's own workers may have reserved them all. Raises `ConfigError` when Ray has too few
    GPUs left. To be called from the main thread (see `open_ray`).
    """
    session = open_ray(ClusterSettings(num_cpus=count, visible_gpus=_gpus_besides_mine()))
    try:
        on_gpus = description.device == "cuda" or (description.device == "auto" and session.gpus > 0)
        if on_gpus:
            _check_gpus(session, count, gpus, section)
        threads = 0 if on_gpus else _threads(session, count)
        description = replace(description, device="cuda:0" if on_gpus else "cpu", threads=threads)
        transport = RayTransport(session, description, replica=ScoreReplica, cpus=0, gpus=gpus if on_gpus else 0)
        budget = RestartBudget(max_restarts, RESTART_WINDOW_S)
        pool = ReplicaPool(
            transport, count, budget, start_timeout_s, silence_timeout_s=silence_timeout_s, ask="score", section=section
        )
        return ReplicatedScores(pool)
    except BaseException:
        session.close()
        raise


def _check_gpus(session: RaySession, count: int, gpus: float, section: str) -> None:
    free = session.free_gpus
    if free < count * gpus:
        raise ConfigError(
            f"{section}.replicas = {count} with gpus_per_replica = {gpus:g} need {count * gpus:g} GPUs, and Ray has "
            f"{free:g} left; lower one of the two, or set {section}.device to cpu"
        )


def _threads(session: RaySession, count: int) -> int:
    """CPU threads of each replica: what the user's environment says, or an equal share of the CPUs."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() else max(1, int(session.cpus) // count)


def _gpus_besides_mine() -> tuple[str, ...] | None:
    """The GPUs that a Ray started here may give away: all, or all but the one that this process computes on."""
    import torch

    from rlkit.cluster.visible_gpus import visible_gpus

    if not torch.cuda.is_available() or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return None
    mine = torch.cuda.current_device()
    return tuple(name for index, name in enumerate(visible_gpus()) if index != mine)
