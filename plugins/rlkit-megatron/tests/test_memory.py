"""What each process has in memory, and what it writes: its share of a model, and one tensor more."""

from __future__ import annotations

import importlib
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
from rlkit_megatron.backend import MegatronBackend
from transformers import AutoModelForCausalLM

from rlkit.testing.rank_cases import RankCase, case_conversations
from rlkit.testing.ranks import run_on_ranks

pytestmark = pytest.mark.slow

LAYERS = 16


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The functions in measured.py, under a name that the processes find them by."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield importlib.import_module("measured")
    sys.modules.pop("measured")


@pytest.fixture(scope="module")
def model(model_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of many layers: a matrix of one of them is a small part of the whole."""
    made = model_folder("qwen3", num_hidden_layers=LAYERS, hidden_size=64, tie_word_embeddings=False)
    folder = tmp_path_factory.mktemp("model")
    # Small files: safetensors maps one at a time into memory, and a mapping counts as if all of it were read.
    AutoModelForCausalLM.from_pretrained(made).save_pretrained(folder, max_shard_size="100KB")
    return folder


def case(model: Path, ranks: int, **options: int) -> RankCase:
    return RankCase("supervised", model, ((0, 1, 2, 3, 4, 5),) * ranks, backend="megatron", options=options)


def whole_bytes(model: Path) -> int:
    return sum(file.stat().st_size for file in model.glob("*.safetensors"))


@pytest.mark.parametrize("options", [{"tensor_parallel": 2}, {"pipeline_parallel": 2}], ids=["tp2", "pp2"])
def test_no_process_ever_holds_the_whole_model(measured, model, options):
    whole = whole_bytes(model)
    for passage in run_on_ranks(measured.measure_passage, case(model, 2, **options), ranks=2):
        assert passage.parameter_bytes == pytest.approx(whole / 2, rel=0.1)
        assert passage.parameter_bytes <= passage.building_peak_bytes < 0.75 * whole
        assert passage.export_peak_bytes < 0.25 * whole


def test_copies_share_what_is_to_be_written(measured, model):
    spread = RankCase("supervised", model, ((0, 1), (2, 3, 4, 5)), backend="megatron", dtype="bfloat16")
    found = run_on_ranks(measured.measure_writing, spread, ranks=2)
    assert sum(one.written for one in found) == 3 * found[0].parameters  # weights and two moments, each element once
    for one in found:
        assert one.written == pytest.approx(1.5 * one.parameters, rel=0.1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_resuming_has_the_values_of_few_parameters_at_a_time_beside_the_model(
    model, role, dtype, tmp_path, monkeypatch
):
    trainee = MegatronBackend().build_supervised(role(path=model, dtype=dtype))
    trainee.update_supervised(case_conversations(case(model, 1), 0))
    trainee.save(tmp_path)
    put_together, given, most = trainee.weights._put_together, [], [0]

    def watched(slices: Any) -> Any:
        for parameter, values in put_together(slices):
            given.append(weakref.ref(values))
            most[0] = max(most[0], sum(one() is not None for one in given))
            yield parameter, values

    monkeypatch.setattr(trainee.weights, "_put_together", watched)
    trainee.load(tmp_path)
    assert len(given) == 3 * len({held.parameter for held in trainee.weights.held})
    assert most[0] <= 2


class Walked(list[Any]):
    """Counts how often it is gone through."""

    walks = 0

    def __iter__(self) -> Any:
        self.walks += 1
        return super().__iter__()


def test_a_checkpoint_does_not_look_through_all_tensors_for_each_of_them(model_folder, role):
    trainee = MegatronBackend().build_supervised(role(path=model_folder("qwen3_moe")))
    held = Walked(trainee.weights.held)
    trainee.weights.held = held
    assert len(trainee.state().tensors["weights"]) == len(held)
    assert held.walks <= 1
