"""Where the time of rlkit's SFT step goes: torch's profiler on a few steps, operations by kind. Not a comparison.

    python benchmarks/training_profile.py --data gsm8k_train.jsonl [--steps 4] [--threads 1]

The model and the rows are those of training_sft.py. The result goes to results/training_profile.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from turns import versions

RESULTS = Path(__file__).parent / "results" / "training_profile.json"
ROWS, MAX_TOKENS = 8, 1024
KINDS = {
    "matrix products": ("mkldnn::_linear_pointwise", "_ProductBackward", "aten::mm", "aten::addmm", "aten::bmm"),
    "attention between tokens": ("aten::_scaled_dot_product", "aten::_flash_attention"),
    "optimizer and clipping": ("aten::_fused_adamw", "aten::_foreach", "aten::linalg_vector_norm"),
}
"""By the beginning of an operation's name; everything else is `elementwise and data movement` (norms, rotary embedding,
SwiGLU, residuals, softmax of the head, copies, Python)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", required=True, help="GSM8K's training questions and answers, as JSONL")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        trainee, batch = build(Path(name), arguments.data, (arguments.steps + 1) * ROWS)
        parts = [batch.select(range(start, start + ROWS)) for start in range(0, len(batch) - ROWS + 1, ROWS)]
        trainee.update_supervised(parts[0])
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for part in parts[1:]:
                trainee.update_supervised(part)
    events = [(event.key, event.self_cpu_time_total) for event in profiler.key_averages()]
    total = sum(time for _, time in events)
    shares = {kind: sum(time for key, time in events if key.startswith(names)) / total for kind, names in KINDS.items()}
    shares["elementwise and data movement"] = 1 - sum(shares.values())
    largest = sorted(events, key=lambda event: -event[1])[:12]
    result = {
        "share_of_time": {kind: round(share, 3) for kind, share in shares.items()},
        "largest_operations": {key: round(time / total, 3) for key, time in largest},
        "steps": len(parts) - 1,
        "threads": arguments.threads,
        "versions": versions("rlkit-llm", "torch", "transformers"),
    }
    print(json.dumps(result, indent=2))
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def build(folder: Path, data: str, rows: int) -> tuple[Any, Any]:
    """The model in training and encoded conversations, at least `rows` of them."""
    from rlkit_fsdp.supervised import FSDPSupervised

    from rlkit.data.conversations import load_conversations
    from rlkit.data.supervised import encode_conversations
    from rlkit.models.create import create_model
    from rlkit.models.registry import find_family
    from rlkit.models.tokenizer import load_tokenizer
    from rlkit.protocols.actor import ModelRole, OptimizerSettings

    model = folder / "model"
    create_model(model, family="qwen3", size="small", tokenizer="byte")
    lines = Path(data).read_text(encoding="utf-8").splitlines()
    random.Random(0).shuffle(lines)
    (folder / "rows.jsonl").write_text("\n".join(lines[: 2 * rows]) + "\n", encoding="utf-8")
    conversations = load_conversations((str(folder / "rows.jsonl"),))
    batch = encode_conversations(conversations, load_tokenizer(model), max_length=MAX_TOKENS, overlong="drop").batch
    if len(batch) < rows:
        sys.exit(f"only {len(batch)} of the conversations are short enough")
    optimizer = OptimizerSettings(1e-4, 0.0, (0.9, 0.999), 1e-8, 1.0, "constant", 0, 100, 0.0)
    role = ModelRole(model, find_family(model), "float32", "cpu", 8192, False, False, 0, optimizer)
    return FSDPSupervised(role), batch.select(range(rows))


if __name__ == "__main__":
    main()
