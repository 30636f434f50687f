"""One copy of a reward model in a process of its own."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.cluster.pulse import Pulse, PulseAddress
from rlkit.cluster.replica import ReadChunk, ReplicaInfo, ReplicaState
from rlkit.errors import ClusterError

if TYPE_CHECKING:
    from rlkit.models.score_model import ScoreModel, TokenRow


@dataclass(frozen=True)
class ScoreDescription:
    """Everything that a worker needs to load the model.

    folder, hub_id  the model's folder on the driver; where a node has no such folder, the Hub id is looked up there
    threads         of CPU arithmetic; 0 leaves torch's choice
    versions        distribution -> version that the worker must have
    """

    folder: str
    hub_id: str
    dtype: str
    device: str
    trust_remote_code: bool = False
    threads: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)


class ScoreReplica:
    """Holds one reward model; its methods are called one at a time. Nothing is loaded before `set_up`.

    pulse: where its process gives signs of life. read_chunk is of no use here: a reward model's weights do not change.
    """

    def __init__(
        self, description: ScoreDescription, read_chunk: ReadChunk | None = None, pulse: PulseAddress | None = None
    ) -> None:
        self._description = description
        self._model: ScoreModel | None = None
        self._pulse = None if pulse is None else Pulse(pulse)

    def set_up(self, state: ReplicaState) -> ReplicaInfo:
        """Load the model. Raises `ClusterError` on a node with other versions or without the folder."""
        import torch

        from rlkit.cluster.environment import set_environment_guards
        from rlkit.cluster.versions import check_versions
        from rlkit.models.locate import locate_model
        from rlkit.models.score_model import load_score_model

        told = self._description
        info = ReplicaInfo(socket.gethostname(), os.getpid())
        set_environment_guards()
        check_versions(told.versions, node=info.node)
        if told.threads:
            torch.set_num_threads(told.threads)
        folder = Path(told.folder)
        if not folder.is_dir():
            if not told.hub_id:
                raise ClusterError(
                    f"node {info.node} has no folder {folder}; put the reward model on a file system that all nodes "
                    "share, or give a Hub id"
                )
            folder = locate_model(told.hub_id, trust_remote_code=told.trust_remote_code)
        self._model = load_score_model(
            folder, dtype=told.dtype, device=told.device, trust_remote_code=told.trust_remote_code
        )
        return info

    def score(self, rows: Sequence[TokenRow]) -> list[list[float]]:
        """As `ScoreModel.logits`."""
        if self._model is None:
            raise ClusterError("this replica has no reward model yet; set_up comes first")
        return self._model.logits(rows)

    def close(self) -> None:
        self._model = None
