"""The family contract is worth something only if it fails for families with a fault: each check meets one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlkit.errors import ModelError
from rlkit.models.family import TransformersFamily
from rlkit.testing.contracts import model_family as contract
from rlkit.testing.tiny_model import tiny_model

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "tie_word_embeddings": True,
    }
}


class Good(TransformersFamily):
    def __init__(self) -> None:
        super().__init__("qwen3", SIZES)


class OtherArchitecture(Good):
    def create_config(self, preset: str, overrides: Mapping[str, Any]) -> Any:
        config = super().create_config(preset, overrides)
        config.architectures = ["LlamaForCausalLM"]
        return config


class IgnoresKeys(Good):
    def create_config(self, preset: str, overrides: Mapping[str, Any]) -> Any:
        return super().create_config(preset, {key: value for key, value in overrides.items() if key in SIZES["tiny"]})


class SavesRounded(Good):
    def save(self, named_tensors: Iterable[tuple[str, Tensor]], config: Any, folder: Path) -> None:
        super().save(((name, tensor.bfloat16().float()) for name, tensor in named_tensors), config, folder)


class LoadsAllButOne(Good):
    def load_weights(self, module: nn.Module, folder: Path) -> None:
        super().load_weights(module, folder)
        with torch.no_grad():
            next(module.parameters()).mul_(1.1)


class ExportsTwice(Good):
    def export_weights(self, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
        for _ in range(2):
            yield from super().export_weights(module)

    def save(self, named_tensors: Iterable[tuple[str, Tensor]], config: Any, folder: Path) -> None:
        super().save(dict(named_tensors).items(), config, folder)


class RandomScore(Good):
    def load_weights(self, module: nn.Module, folder: Path) -> None:
        super().load_weights(module, folder)
        if hasattr(module, "score"):
            nn.init.normal_(module.score.weight)  # type: ignore[arg-type,union-attr]


class LoadsWhatItCan(Good):
    def load_weights(self, module: nn.Module, folder: Path) -> None:
        try:
            super().load_weights(module, folder)
        except ModelError as error:
            if "pickle" in str(error) or "pytorch_model.bin" in str(error):
                raise


class Unpickles(Good):
    def load_weights(self, module: nn.Module, folder: Path) -> None:
        pickled = folder / "pytorch_model.bin"
        if pickled.exists():
            module.load_state_dict(torch.load(pickled), strict=False)
        else:
            super().load_weights(module, folder)


FAULTS: dict[Any, type[Good]] = {
    contract.sizes_make_configs_of_the_listed_architectures: OtherArchitecture,
    contract.unknown_sizes_and_keys_are_refused: IgnoresKeys,
    contract.saved_models_open_in_transformers_with_equal_logits: SavesRounded,
    contract.loaded_models_have_the_logits_of_from_pretrained: LoadsAllButOne,
    contract.export_gives_each_tensor_once_under_the_names_of_the_file: ExportsTwice,
    contract.value_models_start_at_zero_on_the_same_backbone: RandomScore,
    contract.wrong_tensors_are_refused_by_name: LoadsWhatItCan,
    contract.pickled_weights_are_refused: Unpickles,
}


def context(family: type[Good], tmp_path: Path) -> Any:
    spec = SimpleNamespace(architectures=("Qwen3ForCausalLM",))
    return SimpleNamespace(build=family, plugin=SimpleNamespace(spec=spec), tmp_path=tmp_path, tiny_model=tiny_model)


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_a_good_family_passes(check: Any, tmp_path: Path) -> None:
    check(context(Good, tmp_path))


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_every_check_finds_its_fault(check: Any, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check(context(FAULTS[check], tmp_path))
