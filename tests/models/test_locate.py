from __future__ import annotations

from pathlib import Path

import pytest

from rlkit.errors import ModelError
from rlkit.models.locate import CONFIG_PATTERNS, WEIGHT_PATTERNS, base_and_adapter, locate_model, locate_tokenizer


def make_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_model_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    assert locate_model(str(folder)) == folder


def test_a_run_means_its_final_model(tmp_path: Path) -> None:
    make_model(tmp_path / "checkpoints" / "step_000009" / "model")
    final = make_model(tmp_path / "model")
    assert locate_model(str(tmp_path)) == final


def test_an_unfinished_run_means_its_newest_checkpoint(tmp_path: Path) -> None:
    make_model(tmp_path / "checkpoints" / "step_000009" / "model")
    newest = make_model(tmp_path / "checkpoints" / "step_000010" / "model")
    (tmp_path / "checkpoints" / "step_000011").mkdir()
    assert locate_model(str(tmp_path)) == newest


def test_a_checkpoint_means_its_model(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "step_000010" / "model")
    assert locate_model(str(tmp_path / "step_000010")) == folder


@pytest.mark.parametrize("path", ["./nowhere", "/no/such/folder", "a/b/c", "../x"])
def test_a_missing_folder_is_named_without_asking_the_hub(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("asked the Hub"))
    with pytest.raises(ModelError, match="does not exist"):
        locate_model(path)


def test_an_empty_path_says_which_setting_to_give() -> None:
    with pytest.raises(ModelError, match=r"model\.path"):
        locate_model("")


def test_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_text("")
    with pytest.raises(ModelError, match="is a file"):
        locate_model(str(file))


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        locate_model(str(tmp_path))


def test_the_hub_cache_is_asked_before_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = make_model(tmp_path / "snapshot")
    (snapshot / "model.safetensors").write_text("")
    calls: list[bool] = []

    def download(hub_id: str, *, allow_patterns: list[str], local_files_only: bool = False) -> str:
        assert hub_id == "org/name"
        assert allow_patterns == [*CONFIG_PATTERNS, *WEIGHT_PATTERNS]
        calls.append(local_files_only)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert locate_model("org/name") == snapshot
    assert calls == [True]


def test_an_incomplete_cache_is_completed_from_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = make_model(tmp_path / "snapshot")
    calls: list[bool] = []

    def download(hub_id: str, *, allow_patterns: list[str], local_files_only: bool = False) -> str:
        calls.append(local_files_only)
        if not local_files_only:
            (snapshot / "model.safetensors").write_text("")
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert locate_model("org/name") == snapshot
    assert calls == [True, False]


def test_an_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(*args: object, local_files_only: bool = False, **options: object) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        raise ConnectionError("no route\nto the host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(
        ModelError, match=r"'org/name' is neither an existing folder nor in the Hub cache.*no route"
    ) as error:
        locate_model("org/name")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("trust_remote_code", [False, True])
@pytest.mark.parametrize("with_weights", [False, True])
def test_only_what_is_needed_is_downloaded_and_never_a_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trust_remote_code: bool, with_weights: bool
) -> None:
    snapshot = make_model(tmp_path / "snapshot")
    (snapshot / "model.safetensors").write_text("")
    asked: list[str] = []

    def download(hub_id: str, *, allow_patterns: list[str], local_files_only: bool = False) -> str:
        asked.extend(allow_patterns)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    locate_model("org/name", trust_remote_code=trust_remote_code, with_weights=with_weights)
    assert ("*.safetensors" in asked) == with_weights
    assert ("*.py" in asked) == trust_remote_code
    assert not any(pattern.endswith((".bin", ".pt", ".pkl")) or pattern == "*" for pattern in asked)


def test_a_tokenizer_folder_needs_no_model(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    assert locate_tokenizer(str(tmp_path)) == tmp_path


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no tokenizer"):
        locate_tokenizer(str(tmp_path))


def test_an_adapter_is_its_base_model_and_itself_and_no_model_to_train(tmp_path: Path) -> None:
    base = make_model(tmp_path / "base")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = '{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "%s"}'
    (adapter / "adapter_config.json").write_text(config % base)
    assert base_and_adapter(str(adapter)) == (str(base), adapter)
    assert base_and_adapter(str(base)) == (str(base), None)
    assert base_and_adapter("org/name") == ("org/name", None)
    with pytest.raises(ModelError, match="is an adapter, which only generate and serve take; give a whole model"):
        locate_model(str(adapter))
    (adapter / "adapter_config.json").write_text(config % (tmp_path / "gone"))
    with pytest.raises(ModelError, match=r"on '.*gone', where there is no model .*correct base_model_name_or_path"):
        base_and_adapter(str(adapter))
