from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from rlkit.data.files import read_rows
from rlkit.data.hub import looks_like_hub_id, read_hub
from rlkit.errors import DataError, MissingRequirementError


def install_fake(
    monkeypatch: pytest.MonkeyPatch, version: str = "5.2.0", error: Exception | None = None
) -> list[tuple]:
    calls: list[tuple] = []

    def load_dataset(name: str, config: str | None, split: str) -> list[dict]:
        calls.append((name, config, split))
        if error:
            raise error
        return [{"question": "1 + 1?", "answer": "2", "note": None}]

    module = ModuleType("datasets")
    module.__dict__.update(load_dataset=load_dataset, __version__=version, __spec__=SimpleNamespace(name="datasets"))
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("openai/gsm8k", ("openai/gsm8k", None, "train")),
        ("openai/gsm8k:main", ("openai/gsm8k", "main", "train")),
        ("openai/gsm8k:main@test", ("openai/gsm8k", "main", "test")),
        ("openai/gsm8k@train[:10]", ("openai/gsm8k", None, "train[:10]")),
    ],
)
def test_a_hub_id_names_data_set_config_and_split(monkeypatch: pytest.MonkeyPatch, path: str, expected: tuple) -> None:
    calls = install_fake(monkeypatch)
    rows = list(read_rows([path]))
    assert calls == [expected]
    assert rows[0].columns == {"question": "1 + 1?", "answer": "2"}
    assert rows[0].place == f"{path}, row 1"


@pytest.mark.parametrize("path", ["train.jsonl", "a/b/c", "/data/x", "./a", "a/", "owner/na me"])
def test_other_paths_are_no_hub_ids(path: str) -> None:
    assert not looks_like_hub_id(path)


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingRequirementError, match=r"rlkit-llm\[hub\]"):
        list(read_hub("openai/gsm8k"))


def test_a_version_that_runs_scripts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install_fake(monkeypatch, version="2.19.1")
    with pytest.raises(MissingRequirementError, match="may run code"):
        list(read_hub("openai/gsm8k"))
    assert not calls


def test_a_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    install_fake(monkeypatch, error=ConnectionError("no route\nto host"))
    with pytest.raises(DataError, match=r"^cannot load the Hub data set 'openai/gsm8k': no route$"):
        list(read_hub("openai/gsm8k"))
