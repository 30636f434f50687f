"""Run by torchrun: a supervised model is built on its ranks and one checkpoint saved. No test.

save_on_ranks.py MODEL CHECKPOINT    the first rank prints a line of JSON: the most that it had of new tensors meanwhile
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile

from rlkit.config.load import load_config
from rlkit.data.order import EpochOrder
from rlkit.pipelines.assembly import locate, model_role
from rlkit.pipelines.checkpoint_content import CheckpointContent
from rlkit.pipelines.model_export import ModelExport
from rlkit.pipelines.training_place import TrainingPlace, follow_leader, prepare_driver
from rlkit.testing.rank_cases import peak_bytes
from rlkit.trainers.sft import SFTState

SETTINGS = ("run.device=cpu", "run.threads=1", "cluster.weight_chunk_mb=1")


def main(model: str, checkpoint: Path) -> None:
    config: Any = load_config("sft", assignments=[f"model.path={model}", *SETTINGS], environ={}).config
    if os.environ["RANK"] != "0":
        follow_leader(config)
        return
    device = prepare_driver(config)
    with TrainingPlace(config, device=device) as place:
        located = locate(config.model)
        role = model_role(config.model, located, config.run, device, config.sft, total_steps=1)
        trainee: Any = place.backend().build_supervised(role)
        content = CheckpointContent(
            {"model": trainee}, SFTState(), EpochOrder(8, seed=0), trainee, ModelExport(located), config.sft.lora
        )
        checkpoint.mkdir()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recording:
            content.stage(checkpoint)()
        print(json.dumps({"peak_bytes": peak_bytes(recording)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
