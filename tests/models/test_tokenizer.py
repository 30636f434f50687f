from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlkit.errors import ModelError
from rlkit.models.tokenizer import load_tokenizer
from rlkit.models.tokenizer_making import make_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_tokenizer("char", alphabet="0123456789", context_length=8).save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def test_another_chat_template_replaces_the_tokenizers_own(folder: Path, tmp_path: Path) -> None:
    template = tmp_path / "own.jinja"
    template.write_text("{% for m in messages %}{{ m['content'] }}!{% endfor %}")
    tokenizer = load_tokenizer(folder, chat_template=str(template))
    assert tokenizer.apply_chat_template([{"role": "user", "content": "12"}], tokenize=False) == "12!"


def test_a_missing_template_is_named(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"chat template 'no\.jinja' does not exist"):
        load_tokenizer(folder, chat_template="no.jinja")


def test_without_a_padding_token_the_end_token_pads(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["pad_token"]
    path.write_text(json.dumps(config))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id is not None


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer could be loaded from") as error:
        load_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


def test_tokenizers_with_their_own_code_need_the_flag(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoTokenizer": ["own.Own", None]}}))
    with pytest.raises(ModelError, match=r"own Python code.*trust_remote_code"):
        load_tokenizer(folder)
