"""State of sharded models: it loads on any number of ranks, bit for bit, and nothing waits for it to be written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from rlkit.models.state_files import shard_path
from rlkit.protocols.actor import LoraSettings
from rlkit.testing.rank_cases import RankCase, save_while_training, train
from rlkit.testing.ranks import RankFailedError, run_on_ranks
from rlkit.testing.tiny_model import tiny_model

pytestmark = pytest.mark.slow

SHARES = ((4,), (0, 1, 2, 3, 5))
LORA = LoraSettings(rank=4, alpha=8.0, targets=("q_proj", "down_proj"))
PRELOAD = ("rlkit_fsdp.backend", "peft")


def run(case: RankCase, ranks: int):
    return run_on_ranks(train, case, ranks=ranks, preload=PRELOAD)


def stored(folder: Path) -> dict[str, Tensor]:
    """Every tensor below `folder`, put together from the ranks' parts by the offsets in the files' headers."""
    parts: dict[str, list[tuple[list[int], Tensor]]] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            offsets = json.loads(file.metadata()["DCP_SHARDING_INFO"])
            for name in file.keys():  # noqa: SIM118 - not a mapping
                key = f"{path.parent.relative_to(folder)}/{name}"
                parts.setdefault(key, []).append((offsets[name]["saved_offsets"], file.get_tensor(name)))
    return {
        key: torch.cat([part for _, part in sorted(found, key=lambda pair: pair[0])])
        if found[0][1].ndim
        else found[0][1]
        for key, found in parts.items()
    }


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(tensor, right[name]) for name, tensor in left.items())


@pytest.mark.parametrize(
    ("kind", "lora"),
    [("supervised", None), ("ppo", None), ("ppo", LORA), ("actor_critic", None), ("moving_reference", None)],
    ids=["supervised", "ppo", "ppo-lora", "actor-critic", "moving-reference"],
)
def test_state_is_the_same_bits_after_two_to_one_to_two(kind, lora, tmp_path):
    case = RankCase(kind, tiny_model(), SHARES, steps=3, lora=lora, save_to=tmp_path / "two")
    two = run(case, 2)
    reload = replace(case, steps=0, load_from=tmp_path / "two", save_to=tmp_path / "one")
    (one,) = run(reload, 1)
    again = run(replace(reload, load_from=tmp_path / "one", save_to=tmp_path / "again"), 2)
    for record in (one, *again):
        assert same(record.weights, two[0].weights)
    saved = stored(tmp_path / "two")
    assert any("exp_avg_sq" in name for name in saved)
    assert same(saved, stored(tmp_path / "one"))
    assert same(saved, stored(tmp_path / "again"))
    documents = [sorted(path.read_text() for path in (tmp_path / name).rglob("*.json")) for name in ("two", "again")]
    assert documents[0] == documents[1]


def test_two_ranks_go_on_with_the_same_bits(tmp_path):
    whole = RankCase("ppo", tiny_model(), SHARES, steps=5)
    first = replace(whole, steps=3, save_to=tmp_path)
    second = replace(whole, first_step=3, steps=2, load_from=tmp_path)
    straight = run(whole, 2)
    run(first, 2)
    resumed = run(second, 2)
    assert resumed[0].metrics == straight[0].metrics[3:]
    assert same(resumed[0].weights, straight[0].weights)


def test_what_two_ranks_saved_goes_on_in_one_process(tmp_path):
    whole = RankCase("supervised", tiny_model(), SHARES, steps=6)
    straight = run(whole, 2)[0]
    run(replace(whole, steps=3, save_to=tmp_path), 2)
    (resumed,) = run(replace(whole, first_step=3, steps=3, load_from=tmp_path), 1)
    for ours, theirs in zip(resumed.metrics, straight.metrics[3:], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_two_replicas_write_each_part_once(tmp_path):
    shares = ((0,), (1, 2), (3,), (4, 5))
    case = RankCase("supervised", tiny_model(), shares, steps=1, options={"replicas": 2}, save_to=tmp_path)
    run(case, 4)
    assert len(list((tmp_path / "model" / "weights").iterdir())) == 2
    (one,) = run(replace(case, options={}, steps=0, load_from=tmp_path, save_to=None), 1)
    assert all(bool(torch.isfinite(weight).all()) for weight in one.weights.values())


def test_a_pending_save_keeps_the_state_of_its_beginning(tmp_path):
    case = RankCase("supervised", tiny_model(), SHARES, steps=2, save_to=tmp_path)
    before, after = run_on_ranks(save_while_training, case, ranks=2, preload=PRELOAD)[0]
    assert not same(before, after)
    (restored,) = run(replace(case, steps=0, load_from=tmp_path, save_to=None), 1)
    assert same(restored.weights, before)


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("ranks", [1, 2])
def test_state_without_a_rank_s_file_is_refused(tmp_path, ranks, missing):
    case = RankCase("supervised", tiny_model(), SHARES, steps=1, save_to=tmp_path)
    run(case, 2)
    shard_path(tmp_path / "model" / "weights", missing).unlink()
    with pytest.raises(RankFailedError, match=f"weights' is not whole: .* written by rank {1 - missing}"):
        run(replace(case, load_from=tmp_path, save_to=None), ranks)


def test_state_of_another_model_is_refused_on_every_rank(tmp_path):
    case = RankCase("supervised", tiny_model(), SHARES, steps=1, lora=LORA, save_to=tmp_path)
    run(case, 2)
    with pytest.raises(RankFailedError, match="holds an adapter only"):
        run(replace(case, lora=None, load_from=tmp_path, save_to=None), 2)
