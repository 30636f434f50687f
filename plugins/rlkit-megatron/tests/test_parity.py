"""Every layout gives the numbers of the FSDP backend in one process: losses, metrics, weights after four optimizer steps.

Rows have different lengths and are packed, in several micro-batches of unequal numbers of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rlkit.testing.rank_cases import CaseKind, RankCase, RankRecord, train_all
from rlkit.testing.ranks import run_on_ranks

pytestmark = pytest.mark.slow

TOLERANCE = 1e-6
"""Of losses, relative to those above 1, and of weights."""
HALF_TOLERANCE = 0.1
"""Of the change of the weights in bfloat16, relative to that change; a weight that did not change is off by 1."""
PRELOAD = (
    "rlkit_fsdp.backend",
    "megatron.core.pipeline_parallel",
    "megatron.core.models.gpt",
    "megatron.core.optimizer",
)
ALL = (0, 1, 2, 3, 4, 5)
FEW, MANY = (4,), (0, 1, 2, 3, 5)
KINDS: tuple[CaseKind, ...] = ("supervised", "ppo")


@dataclass(frozen=True)
class Layout:
    """shares: rows of each process, in the order of ranks; sizes: of the model."""

    name: str
    shares: tuple[tuple[int, ...], ...]
    options: dict[str, Any] = field(default_factory=dict)
    model_type: str = "qwen3"
    sizes: dict[str, Any] = field(default_factory=dict)

    @property
    def is_mixture(self) -> bool:
        return self.model_type == "qwen3_moe"

    def __str__(self) -> str:
        return self.name


LAYOUTS = [
    Layout("one", (ALL,)),
    Layout("tp2", (ALL,) * 2, {"tensor_parallel": 2}),
    Layout("tp2-whole-tokens", (ALL,) * 2, {"tensor_parallel": 2, "sequence_parallel": False}),
    Layout("pp2", (ALL,) * 2, {"pipeline_parallel": 2}),
    Layout("pp2-interleaved", (ALL,) * 2, {"pipeline_parallel": 2, "virtual_pipeline": 2}),
    Layout("dp2", (FEW, MANY)),
    Layout("tp2-pp2", (ALL,) * 4, {"tensor_parallel": 2, "pipeline_parallel": 2}),
    Layout("tp2-dp2", (FEW, FEW, MANY, MANY), {"tensor_parallel": 2}),
    Layout("pp3", (ALL,) * 3, {"pipeline_parallel": 3}, sizes={"num_hidden_layers": 3}),
    Layout("ep2", (FEW, MANY), {"expert_parallel": 2}, "qwen3_moe"),
    Layout("experts-tp2", (ALL,) * 2, {"tensor_parallel": 2}, "qwen3_moe"),
    Layout("experts-pp2", (ALL,) * 2, {"pipeline_parallel": 2}, "qwen3_moe"),
    Layout("ep2-pp2", (FEW, MANY, FEW, MANY), {"expert_parallel": 2, "pipeline_parallel": 2}, "qwen3_moe"),
    Layout("tp2-ep2", (FEW, FEW, MANY, MANY), {"tensor_parallel": 2, "expert_parallel": 2}, "qwen3_moe"),
    Layout(
        "tp2-pp2-dp2",
        (FEW, FEW, MANY, MANY, FEW, FEW, MANY, MANY),
        {"tensor_parallel": 2, "pipeline_parallel": 2},
    ),
]


def cases(model: Path, layout: Layout, kinds: tuple[CaseKind, ...] = KINDS, **changes: Any) -> list[RankCase]:
    made = RankCase("supervised", model, layout.shares, backend="megatron", options=layout.options)
    made = replace(made, **{"steps": 4, "micro_batch_tokens": 24, **changes})
    return [replace(made, kind=kind) for kind in kinds]


_known: dict[str, RankRecord] = {}


def by_fsdp(case: RankCase) -> RankRecord:
    """What the FSDP backend gives in one process; computed once."""
    alone = replace(case, backend="fsdp", options={}, shares=((),))
    if repr(alone) not in _known:
        ((_known[repr(alone)],),) = run_on_ranks(train_all, [alone], ranks=1, preload=PRELOAD, timeout_s=300.0)
    return _known[repr(alone)]


def compare(expected: RankRecord, found: RankRecord, *, tolerance: float = TOLERANCE) -> None:
    """Raises AssertionError for the first number that differs."""
    for step, (theirs, ours) in enumerate(zip(expected.metrics, found.metrics, strict=True)):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            # A norm of the gradient is a sum over all of them; the loss is what is asked for to this precision.
            allowed = (10 if name.endswith("grad_norm") else 1) * tolerance * max(1.0, abs(value))
            assert abs(ours[name] - value) <= allowed, f"{name} in step {step} is {ours[name]}, expected {value}"
    assert expected.weights.keys() == found.weights.keys()
    for name, weight in expected.weights.items():
        error = float((weight - found.weights[name]).abs().max())
        assert error <= tolerance, f"{name} is off by {error:.2g}"


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_training_is_that_of_fsdp_on_one_device(model_folder, layout):
    model = model_folder(layout.model_type, tie_word_embeddings=not layout.is_mixture, **layout.sizes)
    # Value heads on experts are not there in transformers' layout.
    wanted = cases(model, layout, has_critic=not layout.is_mixture)
    found = run_on_ranks(train_all, wanted, ranks=len(layout.shares), preload=PRELOAD, timeout_s=300.0)
    for number, case in enumerate(wanted):
        expected = by_fsdp(case)
        for rank, records in enumerate(found):
            record = records[number]
            compare(expected, record)
            assert record.metrics == found[0][number].metrics, f"rank {rank} reports other metrics than rank 0"
            for ours, theirs in zip(record.outputs, expected.outputs, strict=True):
                rows = theirs.split([response for _, response in case.rows])
                mine = torch.cat([rows[row] for row in layout.shares[rank]])
                torch.testing.assert_close(ours, mine, rtol=0, atol=10 * TOLERANCE)


def test_a_critic_of_experts_learns_as_in_one_process(model_folder):
    """Which fsdp has none of."""
    model = model_folder("qwen3_moe", tie_word_embeddings=False)
    layout = next(layout for layout in LAYOUTS if layout.name == "ep2")
    ((expected,),) = run_on_ranks(train_all, cases(model, Layout("one", (ALL,)), ("ppo",)), ranks=1, preload=PRELOAD)
    for (record,) in run_on_ranks(train_all, cases(model, layout, ("ppo",)), ranks=2, preload=PRELOAD, timeout_s=300.0):
        compare(expected, record)


@pytest.mark.parametrize("layout", [LAYOUTS[0], LAYOUTS[6]], ids=str)
def test_other_kinds_of_training_are_those_of_fsdp(model_folder, layout):
    """Actor and critic on one network, a reference that follows; full recomputation in the backward pass."""
    kinds: tuple[CaseKind, ...] = ("actor_critic", "moving_reference")
    wanted = cases(model_folder("qwen2", tie_word_embeddings=False), layout, kinds, gradient_checkpointing=True)
    found = run_on_ranks(train_all, wanted, ranks=len(layout.shares), preload=PRELOAD, timeout_s=300.0)
    for number, case in enumerate(wanted):
        for records in found:
            compare(by_fsdp(case), records[number])


@pytest.mark.parametrize("layout", [LAYOUTS[0], LAYOUTS[1], LAYOUTS[5]], ids=str)
def test_half_precision_stays_near(model_folder, layout):
    """Masters, moments and exported weights are float32, arithmetic is bfloat16: weights change as in float32."""
    model = model_folder("qwen3", tie_word_embeddings=True)
    (case,) = cases(model, layout, ("supervised",), dtype="bfloat16")
    expected, before = by_fsdp(replace(case, dtype="float32")), load_file(model / "model.safetensors")
    for (record,) in run_on_ranks(train_all, [case], ranks=len(layout.shares), preload=PRELOAD, timeout_s=300.0):
        for theirs, ours in zip(expected.metrics, record.metrics, strict=True):
            assert ours["sft/loss"] == pytest.approx(theirs["sft/loss"], rel=2e-2)
        assert {weight.dtype for weight in record.weights.values()} == {torch.float32}
        error, change = 0.0, 0.0
        for name, weight in expected.weights.items():
            error += float((record.weights[name] - weight).square().sum())
            change += float((weight - before[name]).square().sum())
        assert 0 < error < HALF_TOLERANCE**2 * change
