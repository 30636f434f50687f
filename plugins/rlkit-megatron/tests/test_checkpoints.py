"""State that one layout wrote and another reads; on the same layout the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rlkit_megatron.backend import MegatronBackend

from rlkit.errors import CheckpointError
from rlkit.models.state_files import shard_path
from rlkit.testing.rank_cases import RankCase, RankRecord, train_all
from rlkit.testing.ranks import RankFailedError, run_on_ranks

pytestmark = pytest.mark.slow

ALL = (0, 1, 2, 3, 4, 5)
SPLIT = ((4,), (0, 1, 2, 3, 5))
LAYOUTS: dict[str, tuple[dict[str, Any], tuple[tuple[int, ...], ...]]] = {
    "one": ({}, (ALL,)),
    "tp2": ({"tensor_parallel": 2}, (ALL, ALL)),
    "pp2": ({"pipeline_parallel": 2}, (ALL, ALL)),
    "dp2": ({}, SPLIT),
    "tp2-pp2": ({"tensor_parallel": 2, "pipeline_parallel": 2}, (ALL,) * 4),
}
TOLERANCE = 2e-6


def run(model: Path, layout: str, *steps: dict[str, Any], **changes: Any) -> list[RankRecord]:
    """Rank 0's records of cases that follow each other in the same processes."""
    options, shares = LAYOUTS[layout]
    plain = RankCase("ppo", model, shares, backend="megatron", options=options, micro_batch_tokens=24, **changes)
    cases = [replace(plain, **step) for step in steps]
    records: list[RankRecord] = run_on_ranks(train_all, cases, ranks=len(shares), timeout_s=300.0)[0]
    return records


@pytest.fixture(scope="module")
def model(model_folder) -> Path:
    folder: Path = model_folder("qwen3", tie_word_embeddings=True)
    return folder


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_a_run_that_was_resumed_on_the_same_layout_has_the_same_bits(model, layout, tmp_path):
    straight, _, resumed = run(
        model,
        layout,
        {"steps": 4},
        {"steps": 2, "save_to": tmp_path},
        {"first_step": 2, "steps": 2, "load_from": tmp_path},
    )
    assert resumed.metrics == straight.metrics[2:]
    for name, weight in straight.weights.items():
        assert torch.equal(weight, resumed.weights[name]), name


def test_a_run_in_half_precision_goes_on_with_the_same_bits(model, tmp_path):
    """The float32 masters are in the checkpoint, not the rounded weights."""
    straight, _, resumed = run(
        model,
        "dp2",
        {"steps": 4},
        {"steps": 2, "save_to": tmp_path},
        {"first_step": 2, "steps": 2, "load_from": tmp_path},
        dtype="bfloat16",
    )
    assert resumed.metrics == straight.metrics[2:]
    assert all(torch.equal(weight, resumed.weights[name]) for name, weight in straight.weights.items())


@pytest.fixture(scope="module")
def two_by_two(model, tmp_path_factory) -> tuple[RankRecord, Path]:
    """A run of four steps over two stages of two slices each, and its state after two."""
    folder = tmp_path_factory.mktemp("two-by-two")
    return run(model, "tp2-pp2", {"steps": 4}, {"steps": 2, "save_to": folder})[0], folder


@pytest.mark.parametrize("layout", ["one", "tp2", "pp2", "dp2"])
def test_a_run_goes_on_in_another_layout(model, layout, two_by_two):
    straight, folder = two_by_two
    (resumed,) = run(model, layout, {"first_step": 2, "steps": 2, "load_from": folder})
    for theirs, ours in zip(straight.metrics[2:], resumed.metrics, strict=True):
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=1e-4, abs=TOLERANCE), name
    for name, weight in straight.weights.items():
        torch.testing.assert_close(resumed.weights[name], weight, rtol=0, atol=TOLERANCE, msg=name)


def test_the_other_backend_reads_it_and_the_other_way_round(model, tmp_path):
    """Both write slices of Hugging Face tensors and the same counters: a run may change its backend."""
    ours, theirs = tmp_path / "megatron", tmp_path / "fsdp"
    straight, _ = run(model, "tp2", {"steps": 4}, {"steps": 2, "save_to": ours})
    fsdp = RankCase("ppo", model, ((),), micro_batch_tokens=24)
    ((resumed, _),) = run_on_ranks(
        train_all,
        [replace(fsdp, first_step=2, steps=2, load_from=ours), replace(fsdp, steps=2, save_to=theirs)],
        ranks=1,
    )
    (back,) = run(model, "tp2", {"first_step": 2, "steps": 2, "load_from": theirs})
    for found in (resumed, back):
        for name, weight in straight.weights.items():
            torch.testing.assert_close(found.weights[name], weight, rtol=0, atol=TOLERANCE, msg=name)


def test_the_state_of_another_model_is_refused(model, model_folder, role, tmp_path):
    backend = MegatronBackend()
    actor = backend.build_actor(role(path=model))
    actor.save(tmp_path)
    for other in (model_folder("qwen2", tie_word_embeddings=True), model_folder("qwen3", intermediate_size=64)):
        with pytest.raises(CheckpointError, match="the saved weights are of another model"):
            backend.build_actor(role(path=other)).load(tmp_path)
    with pytest.raises(CheckpointError, match=r"has no folder .*nowhere'; run.output must be on a file system that"):
        actor.load(tmp_path / "nowhere")
    (tmp_path / "adapter").mkdir()
    with pytest.raises(CheckpointError, match="holds an adapter only"):
        actor.load(tmp_path)


@pytest.mark.parametrize("layout", ["tp2", "pp2"])
def test_state_without_a_rank_s_file_is_refused(model, layout, tmp_path):
    run(model, layout, {"steps": 1, "save_to": tmp_path})
    missing = shard_path(tmp_path / "actor" / "weights", 1)
    assert missing.is_file()
    missing.unlink()
    with pytest.raises(RankFailedError, match=r"weights' is not whole: |is not in '.*weights', to which rank 0 wrote"):
        run(model, "one", {"steps": 1, "load_from": tmp_path})


def test_a_save_in_the_background_is_of_the_moment_it_began(model, role, tmp_path):
    from rlkit.testing.rank_cases import case_conversations

    trainee = MegatronBackend().build_supervised(role(path=model))
    batch = case_conversations(RankCase("supervised", model, ((),)), 0)
    trainee.update_supervised(batch)
    before = dict(trainee.export_weights())
    pending = trainee.begin_save(tmp_path)
    trainee.update_supervised(batch)
    pending.wait()
    trainee.load(tmp_path)
    assert all(torch.equal(weight, before[name]) for name, weight in trainee.export_weights())
