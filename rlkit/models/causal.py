"""Building, loading and writing models of transformers' architectures. What model family plugins are made of.

folder --build--> module (right type and device, no values yet) --load_weights--> same logits as from_pretrained
module --export_weights--> (Hugging Face name, tensor) ... --save--> folder that from_pretrained opens
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rlkit.errors import ModelError
from rlkit.models.image_text import is_image_text
from rlkit.models.safetensors_io import DEFAULT_SHARD_BYTES, stream_tensors, write_sharded
from rlkit.models.shape import read_config_json
from rlkit.models.sharded import copy_into
from rlkit.models.suggestion import did_you_mean
from rlkit.models.value_model import ValueModel

if TYPE_CHECKING:
    from rlkit.protocols.family import ModelHead

SCORE = "score.weight"


def load_config(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The folder's transformers config. Raises `ModelError` when it would need foreign code and that is not allowed."""
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    raw = read_config_json(folder)
    model_type = raw.get("model_type", "")
    if model_type not in CONFIG_MAPPING_NAMES and not trust_remote_code:
        if raw.get("auto_map"):
            raise ModelError(
                f"the model in '{folder}' runs its own Python code (auto_map in config.json); "
                "read that code, then set model.trust_remote_code = true (--set model.trust_remote_code=true)"
            )
        hint = did_you_mean(model_type, CONFIG_MAPPING_NAMES)
        raise ModelError(
            f"config.json of '{folder}' has model_type '{model_type}', which the installed transformers does not know{hint}"
        )
    try:
        return AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise ModelError(f"config.json of '{folder}' cannot be used: {_first_line(error)}") from error


def build_model(
    source: Path | Any, *, head: ModelHead, dtype: torch.dtype, device: str, trust_remote_code: bool = False
) -> nn.Module:
    """A module for the config in a folder, or for a config object.

    From a folder, parameters are allocated but hold no values: `load_weights` gives them all (only a `score` head is
    zero). From a config object they are drawn at random from torch's global generator. Buffers such as the rotary
    frequencies are right in both cases. On device `meta` parameters have no storage, and buffers are on the CPU.
    """
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.initialization import no_init_weights

    from_folder = isinstance(source, Path)
    config: Any = load_config(source, trust_remote_code=trust_remote_code) if from_folder else copy.deepcopy(source)
    language_model = AutoModelForImageTextToText if _has_images(config) else AutoModelForCausalLM
    auto_class = language_model if head == "causal_lm" else AutoModel
    try:
        place = _parameters_without_storage() if device == "meta" else torch.device(device)
        with place, no_init_weights() if from_folder else nullcontext():
            module: Any = auto_class.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
        if from_folder:
            module.tie_weights()  # part of the initialisation that was left out
    except (ValueError, KeyError, AttributeError, TypeError, NotImplementedError) as error:
        name = str(source) if from_folder else type(config).__name__
        raise ModelError(f"no model can be built from '{name}': {_first_line(error)}") from error
    if head == "value":
        hidden_size = config.get_text_config().hidden_size
        module = ValueModel(module, hidden_size=hidden_size, dtype=dtype, device=device)
    built: nn.Module = module.eval()
    return built


def _has_images(config: Any) -> bool:
    return any(is_image_text(architecture) for architecture in config.architectures or ())


@contextmanager
def _parameters_without_storage() -> Iterator[None]:
    """Every parameter goes to device `meta` as soon as a module gets it, before its memory is ever touched.

    Under `torch.device("meta")` the buffers would have no values either, and those that no file holds (the rotary
    frequencies) could not be restored.
    """
    register = nn.Module.register_parameter

    def register_without_storage(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and param.device.type != "meta":
            param = nn.Parameter(param.to("meta"), requires_grad=param.requires_grad)
        register(self, name, param)

    nn.Module.register_parameter = register_without_storage  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def load_weights(module: nn.Module, folder: Path) -> None:
    """Copy the folder's safetensors into `module`, one tensor at a time.

    A value model ignores language-model heads and keeps its score when the folder has none; a language model takes tied
    tensors once or twice. Raises `ModelError` naming the tensor that is missing, unknown or has another shape.
    """
    assign_weights(module, stream_tensors(folder), where=f"'{folder}'")


def assign_weights(module: nn.Module, named_tensors: Iterable[tuple[str, Tensor]], *, where: str) -> None:
    """Copy tensors with Hugging Face names into `module` in place; `where` names their origin in errors.

    Every parameter must arrive (tied ones under any of their names). Raises `ModelError` as `load_weights` does.
    """
    from rlkit.models.converted import assign_converted, needs_conversion

    if needs_conversion(module):
        assign_converted(module, named_tensors, where=where)
        return
    targets = hf_tensors(module)
    canonical: dict[int, str] = {}
    for name, tensor in targets.items():
        canonical.setdefault(id(tensor), name)
    ignored = ignored_names(module)
    loaded: set[int] = set()
    with torch.no_grad():
        for name, tensor in named_tensors:
            target = targets.get(name)
            if target is None:
                if ignored(name):
                    continue
                raise ModelError(
                    f"{where} has a tensor '{name}' that {_describe(module)} does not{did_you_mean(name, targets)}"
                )
            if target.shape != tensor.shape:
                raise ModelError(
                    f"tensor '{name}' of {where} has shape {list(tensor.shape)}, but {_describe(module)} expects {list(target.shape)}"
                )
            # Of two names for one tied tensor the first in the module's order decides, whatever the order of arrival.
            if name != canonical[id(target)] and id(target) in loaded:
                continue
            copy_into(target, tensor)
            loaded.add(id(target))
    missing = [name for key, name in canonical.items() if key not in loaded and name != SCORE]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(f"{where} lacks tensor '{missing[0]}'{more} of {_describe(module)}")


def export_weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Hugging Face names and tensors (not copies), tied ones once, under their first name."""
    from rlkit.models.converted import export_converted, needs_conversion

    if needs_conversion(module):
        yield from export_converted(module)
        return
    seen: set[int] = set()
    for name, tensor in hf_tensors(module).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor.detach()


def save_model(
    named_tensors: Iterable[tuple[str, Tensor]],
    config: Any,
    folder: Path,
    *,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> None:
    """Write sharded safetensors, index, config.json and generation_config.json under `folder`.

    A set of tensors with `score.weight` is written as a one-label sequence classifier, transformers' form of a value model.
    """
    from transformers import GenerationConfig

    written = write_sharded(named_tensors, folder, max_shard_bytes=max_shard_bytes)
    config = copy.deepcopy(config)
    config.dtype = _stored_dtype(written)
    config.architectures = [_architecture(config, value=SCORE in written)]
    if SCORE in written:
        config.num_labels = 1
    config.save_pretrained(folder)
    GenerationConfig.from_model_config(config).save_pretrained(folder)


def hf_tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and persistent buffers under their Hugging Face names; tied ones under each of theirs."""
    tensors = module.state_dict(keep_vars=True)
    if not isinstance(module, ValueModel):
        return dict(tensors)
    prefix = module.model.base_model_prefix or "model"
    return {_renamed(name, prefix): tensor for name, tensor in tensors.items()}


def _renamed(name: str, prefix: str) -> str:
    return f"{prefix}.{name.removeprefix('model.')}" if name.startswith("model.") else name


def ignored_names(module: nn.Module) -> Callable[[str], bool]:
    """Predicate: tensors that a folder may hold although the module has no place for them."""
    backbone = module.model if isinstance(module, ValueModel) else module
    patterns = [re.compile(pattern) for pattern in getattr(backbone, "_keys_to_ignore_on_load_unexpected", None) or ()]
    prefix = f"{backbone.base_model_prefix or 'model'}."

    def ignored(name: str) -> bool:
        if name.endswith("rotary_emb.inv_freq") or any(pattern.search(name) for pattern in patterns):
            return True
        # A value model starts from a language model: its head is not part of the backbone.
        return isinstance(module, ValueModel) and not name.startswith((prefix, "score."))

    return ignored


def _architecture(config: Any, *, value: bool) -> str:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    )

    present = (config.architectures or [""])[0]
    if value:
        return str(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.get(config.model_type, present))
    return str(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type, present))


def _stored_dtype(written: Mapping[str, Any]) -> torch.dtype:
    names = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}
    elements: dict[torch.dtype, int] = {}
    for info in written.values():
        dtype = names.get(info.dtype, torch.float32)
        elements[dtype] = elements.get(dtype, 0) + info.num_elements
    return max(elements, key=lambda dtype: elements[dtype])


def _describe(module: nn.Module) -> str:
    if isinstance(module, ValueModel):
        return f"the value model on {type(module.model).__name__}"
    return type(module).__name__


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
