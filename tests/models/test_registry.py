from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlkit.errors import ModelError
from rlkit.models.registry import choose_family, find_family, installed_architectures


@pytest.mark.parametrize(
    ("architecture", "family"),
    [
        ("Qwen2ForCausalLM", "qwen2"),
        ("Qwen3ForCausalLM", "qwen3"),
        ("LlamaForCausalLM", "llama"),
        ("Qwen3ForSequenceClassification", "qwen3"),
        ("GPT2LMHeadModel", "auto"),
        ("MistralForCausalLM", "auto"),
    ],
)
def test_the_family_is_found_by_architecture(architecture: str, family: str) -> None:
    assert choose_family(architecture) == family


def test_a_folder_is_read_for_its_architecture(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    assert choose_family(tmp_path) == "llama"
    assert "3.1-8b" in find_family(tmp_path).presets()


def test_an_unknown_architecture_gets_near_matches_and_what_is_installed() -> None:
    with pytest.raises(
        ModelError, match=r"'Qwen3ForCausalML'; near matches: Qwen3ForCausalLM.*installed families: .*qwen3"
    ):
        choose_family("Qwen3ForCausalML")


def test_an_explicit_family_must_answer_to_the_architecture() -> None:
    assert choose_family("Qwen3ForCausalLM", family="qwen3") == "qwen3"
    with pytest.raises(ModelError, match=r"'llama' does not answer to architecture 'Qwen3ForCausalLM'"):
        choose_family("Qwen3ForCausalLM", family="llama")


def test_choosing_a_listed_family_imports_no_family() -> None:
    code = (
        "import sys; from rlkit.models.registry import choose_family; choose_family('Qwen3ForCausalLM'); "
        "sys.exit(bool({'torch', 'transformers', 'rlkit_qwen.family', 'rlkit_llama.family'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_installed_family_is_listed_with_its_architectures() -> None:
    families = installed_architectures()
    assert families["llama"][0] == "LlamaForCausalLM"
    assert families["auto"] == ()
