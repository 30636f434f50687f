"""How long training stands still for a checkpoint: written in the background against waited for. Both in turns, in one run.

    python benchmarks/checkpoint_stall.py [--pairs 7] [--hidden 512]

A block is one checkpoint of a supervised run (weights, AdamW's moments, export for Hugging Face; hashed and fsynced) and
the optimizer steps after it, until it is whole. Of each pair of blocks one writes in the background, the other waits.
Medians of the pairs' ratios go to results/checkpoint_stall.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "checkpoint_stall.json"
ROWS, TOKENS = 4, 32
STEPS_AFTER = 8
FAMILY, LAYERS = "qwen3", 6


@dataclass(frozen=True)
class Block:
    """Seconds: until training goes on after the checkpoint, of the whole block, and of one step in it (median)."""

    stall: float
    whole: float
    step: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    import torch
    import transformers

    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        run = Run(Path(temporary), hidden=arguments.hidden)
        run.block(in_background=True)  # warms up
        pairs: list[tuple[Block, Block]] = []
        for number in range(arguments.pairs):
            first = number % 2 == 0
            blocks = {choice: run.block(in_background=choice) for choice in (first, not first)}
            pairs.append((blocks[True], blocks[False]))
            print(f"pair {number + 1}: {blocks[True]} against {blocks[False]}", flush=True)
        result = summary(pairs, run)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


class Run:
    """A supervised run without its command: the backend, the content of its checkpoints, and the store."""

    def __init__(self, folder: Path, *, hidden: int) -> None:
        from rlkit.config.load import load_config
        from rlkit.data.order import EpochOrder
        from rlkit.models.create import create_model
        from rlkit.pipelines.assembly import locate, model_role
        from rlkit.pipelines.checkpoint_content import CheckpointContent
        from rlkit.pipelines.model_export import ModelExport
        from rlkit.plugin import PluginKind
        from rlkit.plugin.loader import build_plugin
        from rlkit.tracking.checkpoints import CheckpointStore
        from rlkit.trainers.sft import SFTState

        create_model(
            folder / "model",
            family=FAMILY,
            size="tiny",
            tokenizer="byte",
            overrides={"hidden_size": hidden, "intermediate_size": 3 * hidden, "num_hidden_layers": LAYERS},
        )
        config: Any = load_config("sft", assignments=[f"model.path={folder / 'model'}"], environ={}).config
        located = locate(config.model)
        backend = build_plugin(PluginKind.ACTOR_BACKEND, "fsdp", {}, where="sft.options")
        self.trainee = backend.build_supervised(
            model_role(config.model, located, config.run, "cpu", config.sft, total_steps=1000)
        )
        self.parameters = sum(tensor.numel() for _, tensor in self.trainee.export_weights())
        self.state = SFTState()
        self.content = CheckpointContent(
            {"model": self.trainee},
            self.state,
            EpochOrder(8, seed=0),
            self.trainee,
            ModelExport(located),
            config.sft.lora,
        )
        self.store = CheckpointStore(folder / "checkpoints", keep=1)
        self.batch = random_batch(len(located.tokenizer))

    def block(self, *, in_background: bool) -> Block:
        """One checkpoint and the steps after it."""
        from rlkit.tracking.checkpoint_writer import CheckpointWriter

        writer = CheckpointWriter(self.store, self.content.stage, in_background=in_background)
        self.state.step += 1
        started = time.perf_counter()
        writer.begin(self.state.step)
        stall = time.perf_counter() - started
        steps = []
        for _ in range(STEPS_AFTER):
            begun = time.perf_counter()
            self.trainee.update_supervised(self.batch)
            steps.append(time.perf_counter() - begun)
        writer.wait()
        return Block(stall, time.perf_counter() - started, statistics.median(steps))

    def checkpoint_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.store.folder.rglob("*") if file.is_file())


def random_batch(vocabulary: int) -> Any:
    import torch

    from rlkit.types import Ragged, SupervisedBatch

    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, vocabulary, (ROWS * TOKENS,), generator=generator)
    lengths = torch.full((ROWS,), TOKENS)
    learned = torch.arange(ROWS * TOKENS) % TOKENS > 0  # nothing predicts a conversation's first token
    return SupervisedBatch(Ragged(tokens, lengths), Ragged(learned, lengths))


def summary(pairs: list[tuple[Block, Block]], run: Run) -> dict[str, Any]:
    """background and waiting: medians in seconds; ratios: medians over the pairs, background / waiting."""
    names = ("stall", "whole", "step")
    sides = {"background": [pair[0] for pair in pairs], "waiting": [pair[1] for pair in pairs]}
    return {
        **{
            side: {f"{name}_s": round(statistics.median(getattr(block, name) for block in blocks), 4) for name in names}
            for side, blocks in sides.items()
        },
        "ratios": {
            name: round(statistics.median(getattr(one, name) / getattr(other, name) for one, other in pairs), 3)
            for name in names
        },
        "all_ratios": {
            name: [round(getattr(one, name) / getattr(other, name), 3) for one, other in pairs] for name in names
        },
        "parameters": run.parameters,
        "checkpoint_bytes": run.checkpoint_bytes(),
        "block": {"steps": STEPS_AFTER, "tokens_a_step": ROWS * TOKENS},
        "versions": {name: version(name) for name in ("torch", "safetensors")},
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
