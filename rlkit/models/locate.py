"""From what a user typed (a folder, a run, a checkpoint, a Hub id) to a folder with a model."""

from __future__ import annotations

import re
from pathlib import Path

from rlkit.errors import ModelError
from rlkit.models.adapter_folder import base_model_of, is_adapter_folder

CONFIG_PATTERNS = ("*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken")
WEIGHT_PATTERNS = ("*.safetensors",)
CODE_PATTERNS = ("*.py",)
"""What is fetched from the Hub: configuration and tokenizer files, safetensors, code only when allowed; never pickles."""

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?$")


def locate_model(
    path: str, *, trust_remote_code: bool = False, with_weights: bool = True, download: bool = True
) -> Path:
    """Folder with config.json for `path`: a model folder, a run or checkpoint folder, or a Hub id.

    A run folder means its final `model/`, or else its newest checkpoint. A Hub id is looked up in the local cache and
    downloaded only when it is not there, without the weights when `with_weights` is off, and not at all when `download`
    is off (a dry run). Raises `ModelError` when there is no such model.
    """
    folder = _existing_folder(path)
    if folder is None:
        return _from_hub(path, with_weights=with_weights, with_code=trust_remote_code, download=download)
    found = model_inside(folder)
    if found is None:
        raise ModelError(_not_a_model(path))
    return found


def check_model_path(path: str) -> None:
    """Raise `ModelError` for a path that cannot be a model: no such folder, or a folder without one. No download."""
    folder = _existing_folder(path)
    if folder is not None and model_inside(folder) is None:
        raise ModelError(_not_a_model(path))


def base_and_adapter(path: str) -> tuple[str, Path | None]:
    """What to locate, and the adapter on it: the base model of a folder in which peft keeps an adapter, else `path`, None.

    Raises `ModelError` when the base model cannot be one, naming the adapter.
    """
    folder = Path(path).expanduser()
    if not path or not is_adapter_folder(folder):
        return path, None
    base = base_model_of(folder)
    try:
        check_model_path(base)
    except ModelError as error:
        raise ModelError(
            f"the adapter in '{path}' is on '{base}', where there is no model ({error}); correct base_model_name_or_path in "
            "its adapter_config.json"
        ) from error
    return base, folder


def locate_tokenizer(path: str, *, trust_remote_code: bool = False) -> Path:
    """As `locate_model`, but the folder needs tokenizer files only."""
    folder = _existing_folder(path)
    if folder is None:
        return _from_hub(path, with_weights=False, with_code=trust_remote_code)
    if (folder / "tokenizer_config.json").is_file() or (folder / "tokenizer.json").is_file():
        return folder
    found = model_inside(folder)
    if found is None:
        raise ModelError(f"folder '{path}' has no tokenizer_config.json, so it holds no tokenizer")
    return found


def model_inside(folder: Path) -> Path | None:
    """The model folder that `folder` is or holds (model, checkpoint, run); None when there is none."""
    if (folder / "config.json").is_file():
        return folder
    if (folder / "model" / "config.json").is_file():
        return folder / "model"
    checkpoints = (folder / "checkpoints").glob("step_*")
    for checkpoint in sorted(checkpoints, key=lambda path: path.name, reverse=True):
        if (checkpoint / "model" / "config.json").is_file():
            return checkpoint / "model"
    return None


def _not_a_model(path: str) -> str:
    if is_adapter_folder(Path(path).expanduser()):
        return (
            f"folder '{path}' is an adapter, which only generate and serve take; give a whole model, such as the merged "
            "model/ that a run leaves beside its adapter/"
        )
    return f"folder '{path}' has no config.json, so it is not a model (nor a run or checkpoint holding one)"


def _existing_folder(path: str) -> Path | None:
    if not path:
        raise ModelError("no model given; set model.path (or --model) to a folder or a Hub id")
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelError(f"model path '{path}' is a file; give the folder that holds config.json")
    if not _HUB_ID.match(path) or path.count("/") > 1 or ".." in path:
        raise ModelError(f"model folder '{path}' does not exist")
    return None


def _from_hub(hub_id: str, *, with_weights: bool, with_code: bool, download: bool = True) -> Path:
    """The snapshot folder of a Hub repository, from the cache if it is whole there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    patterns = [*CONFIG_PATTERNS, *(WEIGHT_PATTERNS if with_weights else ()), *(CODE_PATTERNS if with_code else ())]
    try:
        return _whole(Path(snapshot_download(hub_id, allow_patterns=patterns, local_files_only=True)), with_weights)
    except (LocalEntryNotFoundError, ModelError):
        pass
    except ValueError as error:
        raise ModelError(f"model '{hub_id}' is neither a folder nor a Hub id: {error}") from error
    if not download:
        raise ModelError(
            f"model '{hub_id}' is neither an existing folder nor in the Hub cache; the run will download it"
        )
    try:
        return _whole(Path(snapshot_download(hub_id, allow_patterns=patterns)), with_weights)
    except ModelError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"model '{hub_id}' is neither an existing folder nor in the Hub cache, and could not be downloaded: {reason}"
        ) from error


def _whole(snapshot: Path, with_weights: bool) -> Path:
    """The snapshot, unless a part of what is needed is missing (an interrupted or smaller download)."""
    from rlkit.models.safetensors_io import weight_files

    if not any((snapshot / name).is_file() for name in ("config.json", "tokenizer_config.json", "tokenizer.json")):
        raise ModelError(f"Hub snapshot '{snapshot}' has neither config.json nor a tokenizer")
    if with_weights:
        weight_files(snapshot)
    return snapshot
