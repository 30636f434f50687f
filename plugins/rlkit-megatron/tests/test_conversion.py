"""From a Hugging Face checkpoint into any layout and back: every bit; and numbers that are transformers' own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rlkit_megatron import model as model_module
from rlkit_megatron.backend import MegatronBackend
from rlkit_megatron.places import Place
from rlkit_megatron.recipes import RECIPES, Recipe
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rlkit.errors import ConfigError, ModelError
from rlkit.models.registry import find_family
from rlkit.testing.rank_cases import RankCase, case_conversations, train_all
from rlkit.testing.ranks import run_on_ranks

FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"tie_word_embeddings": False}),
    ("llama", {"tie_word_embeddings": True}),
    ("qwen2", {"tie_word_embeddings": True}),
    ("qwen2", {"tie_word_embeddings": False}),
    ("qwen3", {"tie_word_embeddings": False}),
    ("qwen3", {"tie_word_embeddings": True}),
    ("mistral", {"sliding_window": 6}),
    ("qwen3_moe", {}),
    ("qwen3_moe", {"norm_topk_prob": False}),
    ("mixtral", {"sliding_window": None}),
]
ROPES = [
    ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 123.0}}),
    ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}}),
    (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        },
    ),
]
TOLERANCE = 1e-5  # nats a token


def name_of(family: tuple[str, dict[str, Any]]) -> str:
    return "-".join([family[0], *(f"{key}={value}" for key, value in family[1].items() if not isinstance(value, dict))])


def expected_loss(folder: Path) -> float:
    """Of the case's conversations, summed, by transformers itself."""
    batch = case_conversations(RankCase("supervised", folder, ((),)), 0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    total = 0.0
    for tokens, mask in zip(batch.token_ids.rows(), batch.loss_mask.rows(), strict=True):
        with torch.no_grad():
            logits = model(tokens[None]).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")
        total += float(losses[mask[1:]].sum())
    return total


def found_loss(role: Any, folder: Path, family: Any = None) -> float:
    trainee = MegatronBackend().build_supervised(role(path=folder, family=family or find_family(folder)))
    return trainee.evaluate(case_conversations(RankCase("supervised", folder, ((),)), 0))[0]


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, *ROPES], ids=name_of)
def test_losses_are_those_of_transformers(model_folder, role, family):
    folder = model_folder(family[0], **family[1])
    assert found_loss(role, folder) == pytest.approx(expected_loss(folder), abs=26 * TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"tensor_parallel": 2}, {"pipeline_parallel": 2}, {"pipeline_parallel": 2, "virtual_pipeline": 2}],
    ids=["one", "tp2", "pp2", "pp2-interleaved"],
)
def test_a_checkpoint_comes_back_with_every_bit(model_folder, options):
    folders = [model_folder(model_type, **sizes) for model_type, sizes in FAMILIES]
    ranks = 1 if not options else 2
    cases = [
        RankCase("supervised", folder, ((),) * ranks, backend="megatron", options=options, steps=0)
        for folder in folders
    ]
    for records in run_on_ranks(train_all, cases, ranks=ranks):
        for folder, record in zip(folders, records, strict=True):
            stored = load_file(folder / "model.safetensors")
            assert record.weights.keys() == stored.keys()
            for name, weight in stored.items():
                assert torch.equal(record.weights[name], weight), name


@pytest.mark.slow
def test_experts_over_copies_come_back_with_every_bit(model_folder):
    folder = model_folder("mixtral", sliding_window=None)
    case = RankCase("supervised", folder, ((), ()), backend="megatron", options={"expert_parallel": 2}, steps=0)
    stored = load_file(folder / "model.safetensors")
    for (record,) in run_on_ranks(train_all, [case], ranks=2):
        assert record.weights.keys() == stored.keys()
        assert all(torch.equal(record.weights[name], weight) for name, weight in stored.items())


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"tensor_parallel": 2}, {"expert_parallel": 2}], ids=["tp2", "ep2"])
def test_half_precision_keeps_every_bit_of_float32_weights(model_folder, options, tmp_path):
    """The arithmetic's weights are rounded, not those that the optimizer steps and that are exported."""
    folder = model_folder("qwen3_moe")
    case = RankCase("supervised", folder, ((), ()), backend="megatron", options=options, steps=0, dtype="bfloat16")
    stored = load_file(folder / "model.safetensors")
    written, again = replace(case, save_to=tmp_path), replace(case, load_from=tmp_path)
    for records in run_on_ranks(train_all, [written, again], ranks=2):
        for record in records:
            assert record.weights.keys() == stored.keys()
            assert all(torch.equal(record.weights[name], weight) for name, weight in stored.items())


@pytest.mark.slow
def test_a_moving_reference_starts_from_every_bit(model_folder, role):
    folder = model_folder("qwen3", tie_word_embeddings=True)
    reference = MegatronBackend().build_moving_reference(role(path=folder, dtype="bfloat16", optimizer=None))
    kept = {name: part.values for name, part in reference.state().tensors["weights"].items()}
    stored = load_file(folder / "model.safetensors")
    assert kept.keys() == stored.keys()
    assert all(torch.equal(kept[name], weight) for name, weight in stored.items())


class WithRecipe:
    """The model's own family, with another recipe."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.family, self.recipe = find_family(folder), recipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self.family, name)

    def megatron_recipe(self, architecture: str) -> Recipe:
        return self.recipe


def with_names_swapped(left: str, right: str) -> Recipe:
    """A recipe that takes one tensor for the other."""
    plain = RECIPES["Qwen3ForCausalLM"]
    names = {left: right, right: left}

    def swapped(name: str, config: Any) -> tuple[Place, ...] | None:
        places = plain.places(name, config)
        if places is None:
            return None
        changed = []
        for place in places:
            part = next((word for word in names if f".{word}." in place.name), None)
            other = place.name if part is None else place.name.replace(f".{part}.", f".{names[part]}.")
            changed.append(Place(other, place.cut_dim, place.view))
        return tuple(changed)

    return Recipe(plain.settings, swapped)


@pytest.mark.slow
class TestWrongRules:
    """Each would be noticed: a comparison that nothing can fail says nothing."""

    def test_a_family_s_own_recipe_is_used(self, model_folder, role):
        folder = model_folder("qwen3", tie_word_embeddings=False)
        family = WithRecipe(folder, RECIPES["Qwen3ForCausalLM"])
        assert found_loss(role, folder, family) == pytest.approx(expected_loss(folder), abs=26 * TOLERANCE)

    @pytest.mark.parametrize(("left", "right"), [("k_proj", "v_proj"), ("gate_proj", "up_proj"), ("q_norm", "k_norm")])
    def test_tensors_in_each_other_s_place_change_the_loss(self, model_folder, role, left, right):
        folder = model_folder("qwen3", tie_word_embeddings=False)
        found = found_loss(role, folder, WithRecipe(folder, with_names_swapped(left, right)))
        assert abs(found - expected_loss(folder)) > 1000 * TOLERANCE

    @pytest.mark.parametrize("change", [lambda frequencies: frequencies * 0.5, lambda frequencies: frequencies.flip(0)])
    def test_wrong_rotations_change_the_loss(self, model_folder, role, monkeypatch, change):
        folder = model_folder("qwen3", tie_word_embeddings=False)
        right = model_module.rope_frequencies
        monkeypatch.setattr(model_module, "rope_frequencies", lambda config: change(right(config)))
        assert abs(found_loss(role, folder) - expected_loss(folder)) > 1000 * TOLERANCE

    def test_a_window_that_is_ignored_changes_the_loss(self, model_folder, role, monkeypatch):
        folder = model_folder("mistral", sliding_window=3)
        plain = RECIPES["LlamaForCausalLM"]
        assert abs(found_loss(role, folder, WithRecipe(folder, plain)) - expected_loss(folder)) > 1000 * TOLERANCE


class TestRefusals:
    """What cannot be computed in the same way is said when the model is built."""

    @pytest.mark.parametrize(
        ("model_type", "sizes", "words"),
        [
            ("llama", {"attention_bias": True}, "attention_bias = true"),
            ("qwen3", {"hidden_act": "gelu"}, "hidden_act = gelu"),
            ("qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}, "in some layers only"),
            ("qwen3_moe", {"mlp_only_layers": [0]}, "experts in every layer"),
            (
                "llama",
                {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}},
                "rope_type = dynamic",
            ),
        ],
    )
    def test_an_architecture_that_would_give_other_numbers(self, model_folder, role, model_type, sizes, words):
        with pytest.raises(ModelError, match=words):
            MegatronBackend().build_reference(role(path=model_folder(model_type, **sizes), optimizer=None))

    def test_a_folder_that_lacks_a_tensor(self, model_folder, role, tmp_path):
        from safetensors.torch import save_file

        folder = model_folder("qwen3", tie_word_embeddings=False)
        tensors = load_file(folder / "model.safetensors")
        del tensors["model.layers.3.mlp.up_proj.weight"]
        (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"lacks tensor 'model\.layers\.3\.mlp\.up_proj\.weight'"):
            MegatronBackend().build_reference(role(path=tmp_path, optimizer=None))

    def test_half_floats(self, role):
        with pytest.raises(ConfigError, match="dtype = float16"):
            MegatronBackend().build_actor(role(dtype="float16"))
