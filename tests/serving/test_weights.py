from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlkit.errors import ModelError
from rlkit.serving.errors import APIError
from rlkit.serving.weights import allowed_folder, check_same_model
from rlkit.testing.fake_serving import FakeServingEngine
from rlkit.testing.tiny_model import write_tiny_model

KEY = {"authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of one kind, `first` and `second`."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder / "first", seed=0)
    write_tiny_model(folder / "second", seed=1)
    return folder


@pytest.fixture
def served(serve: Any, models: Path) -> Iterator[Any]:
    serve.folder = models / "first"
    with serve(weights_folders=(models,), weights_key="secret", api_key="other") as running:
        yield running


def post(served: Any, path: Path | str, headers: dict[str, str] = KEY, **more: Any) -> Any:
    return served.client.post("/v1/weights", json={"path": str(path), **more}, headers=headers)


def test_new_weights_answer_and_are_named(served: Any, models: Path) -> None:
    body = post(served, models / "second").json()
    assert (body["object"], body["policy_version"]) == ("weights", 1)
    assert "model.embed_tokens.weight" in served.engine.weights
    body = post(served, models / "first", policy_version=40).json()
    assert body["policy_version"] == 40
    headers = {"authorization": "Bearer other"}
    answer = served.client.post("/v1/completions", json={"model": "tiny", "prompt": "x"}, headers=headers)
    assert answer.headers["x-rlkit-policy-version"] == "40"
    assert answer.json()["policy_version"] == 40
    assert "rlkit_weight_updates_total 2" in served.client.get("/metrics").text


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer other"}])
def test_the_key_of_the_clients_does_not_open_it(served: Any, models: Path, headers: dict[str, str]) -> None:
    assert post(served, models / "second", headers).status_code == 401
    assert "update_weights" not in served.engine.calls


def test_without_folders_there_is_no_such_endpoint(serve: Any, error_of: Any) -> None:
    with serve() as served:
        assert error_of(post(served, "x"), 404)["code"] == "unknown_url"


def test_other_folders_are_forbidden_whether_they_exist_or_not(served: Any, models: Path, error_of: Any) -> None:
    for path in (models.parent, models / ".." / "elsewhere", "/etc", "nowhere"):
        assert error_of(post(served, path), 403)["code"] == "path_forbidden"


def test_a_link_that_leads_outside_is_forbidden(models: Path, tmp_path: Path) -> None:
    outside = write_tiny_model(tmp_path / "outside")
    (models / "link").symlink_to(outside)
    (models / "run").mkdir()
    (models / "run" / "model").symlink_to(outside)
    for path in (models / "link", models / "run"):
        with pytest.raises(APIError, match="outside"):
            allowed_folder(str(path), (models,))


def test_a_run_stands_for_its_model(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "second", tmp_path / "run" / "model")
    assert allowed_folder(str(tmp_path / "run"), (tmp_path,)) == tmp_path / "run" / "model"


@pytest.mark.parametrize("path", ["\0", "x" * 5000, "~nobody-here/x"])
def test_what_is_no_path_is_refused(models: Path, path: str) -> None:
    with pytest.raises(APIError):
        allowed_folder(path, (models,))


def test_a_folder_without_a_model_is_refused(served: Any, models: Path, error_of: Any) -> None:
    (models / "empty").mkdir(exist_ok=True)
    assert error_of(post(served, models / "empty"), 400)["code"] == "no_model"


def test_another_model_is_refused_before_anything_is_touched(served: Any, models: Path, error_of: Any) -> None:
    other = models / "other"
    shutil.copytree(models / "second", other, dirs_exist_ok=True)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "num_attention_heads": 2}))
    error = error_of(post(served, other), 400)
    assert error["code"] == "other_model"
    assert "num_attention_heads is 2" in error["message"]
    assert "update_weights" not in served.engine.calls


def test_other_tensors_are_refused(models: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for change in ("missing", "shape"):
        folder = tmp_path / change
        shutil.copytree(models / "second", folder)
        tensors = load_file(folder / "model.safetensors")
        name = "model.norm.weight"
        if change == "missing":
            del tensors[name]
        else:
            tensors[name] = tensors[name][:-1].contiguous()
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(ModelError, match=name):
            check_same_model(models / "first", folder)


def test_what_says_nothing_about_the_model_may_differ(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "newer"
    shutil.copytree(models / "second", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "transformers_version": "9.9", "dtype": "bfloat16"}))
    check_same_model(models / "first", folder)


def test_a_failed_update_is_told_and_nothing_is_answered_until_one_succeeds(
    serve: Any, tokenizer: Any, models: Path, error_of: Any
) -> None:
    class Breaks(FakeServingEngine):
        def update_weights(self, named_tensors: Any, version: int) -> None:
            if not self.calls:
                self.calls.append("update_weights")
                raise ModelError("half way")
            super().update_weights(named_tensors, version)

    serve.folder = models / "first"
    with serve(engine=Breaks(tokenizer), weights_folders=(models,), weights_key="secret") as served:
        assert error_of(post(served, models / "second"), 500)["code"] == "weight_update_failed"
        assert error_of(served.chat(), 503)["code"] == "engine_unusable"
        assert served.client.get("/health").status_code == 503
        assert post(served, models / "second").status_code == 200
        assert served.chat(max_tokens=5).status_code == 200
