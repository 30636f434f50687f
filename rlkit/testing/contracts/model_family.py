"""What every model family must do: its models open in transformers with equal logits, and nothing wrong is loaded silently."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlkit.errors import ModelError

if TYPE_CHECKING:
    from rlkit.protocols import ModelFamily
    from rlkit.testing import ContractContext

VOCABULARY = 64


def sizes_make_configs_of_the_listed_architectures(context: ContractContext) -> None:
    family: ModelFamily = context.build()
    listed = context.plugin.spec.architectures
    for size in family.presets():
        config = family.create_config(size, {})
        assert config.architectures, f"size {size!r}: create_config must set architectures"
        if listed:
            assert config.architectures[0] in listed, (
                f"size {size!r} makes {config.architectures[0]}, which the PluginSpec's architectures do not list"
            )


def unknown_sizes_and_keys_are_refused(context: ContractContext) -> None:
    family: ModelFamily = context.build()
    _refused(partial(family.create_config, "no-such-size", {}), "an unknown size", mentions="no-such-size")
    for size in family.presets():
        create = partial(family.create_config, size, {"no_such_key": 1})
        _refused(create, "an unknown config key", mentions="no_such_key")


def saved_models_open_in_transformers_with_equal_logits(context: ContractContext) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    _, folder, module = _new_model(context)
    if module is None:
        return
    opened = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    token_ids = _token_ids()
    with torch.no_grad():
        assert torch.equal(module(token_ids).logits, opened(token_ids).logits), (
            "logits changed between save and from_pretrained"
        )


def loaded_models_have_the_logits_of_from_pretrained(context: ContractContext) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    family, folder, _ = _new_model(context)
    module = family.build(folder, head="causal_lm", dtype=torch.float32, device="cpu")
    family.load_weights(module, folder)
    opened = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    token_ids = _token_ids()
    with torch.no_grad():
        assert torch.equal(module.eval()(token_ids).logits, opened(token_ids).logits), (
            "logits differ from from_pretrained"
        )


def export_gives_each_tensor_once_under_the_names_of_the_file(context: ContractContext) -> None:
    import torch

    from rlkit.models.safetensors_io import read_headers

    family, folder, _ = _new_model(context)
    module = family.build(folder, head="causal_lm", dtype=torch.float32, device="cpu")
    family.load_weights(module, folder)
    names = [name for name, _ in family.export_weights(module)]
    assert len(names) == len(set(names)), "export_weights gives a name twice"
    stored = read_headers(folder)
    unknown = sorted(set(names) - set(stored))
    assert not unknown, f"export_weights gives {unknown[0]!r}, which the saved files do not have"
    for name, tensor in family.export_weights(module):
        assert tuple(tensor.shape) == stored[name].shape, f"{name}: exported and stored shapes differ"


def value_models_start_at_zero_on_the_same_backbone(context: ContractContext) -> None:
    import torch

    family, folder, _ = _new_model(context)
    language_model = family.build(folder, head="causal_lm", dtype=torch.float32, device="cpu")
    family.load_weights(language_model, folder)
    module: Any = family.build(folder, head="value", dtype=torch.float32, device="cpu")
    family.load_weights(module, folder)
    token_ids = _token_ids()
    with torch.no_grad():
        hidden = module.model(input_ids=token_ids, use_cache=False).last_hidden_state
        expected = language_model.base_model(input_ids=token_ids, use_cache=False).last_hidden_state  # type: ignore[operator]
        assert torch.equal(hidden, expected), "the value model's backbone differs from the language model's"
        values = module.score(hidden)
    assert values.shape == (*token_ids.shape, 1), (
        f"score gives shape {tuple(values.shape)}, expected {(*token_ids.shape, 1)}"
    )
    assert not values.any(), "score must be zero at first"


def wrong_tensors_are_refused_by_name(context: ContractContext) -> None:
    import torch

    from rlkit.models.safetensors_io import stream_tensors, write_sharded

    family, folder, _ = _new_model(context)
    tensors = dict(stream_tensors(folder))
    first = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    cases = {
        "a missing tensor": {name: tensor for name, tensor in tensors.items() if name != first},
        "a wrong shape": {**tensors, first: tensors[first][:, :-1]},
        "an unknown tensor": {**tensors, "no.such.weight": torch.zeros(1)},
    }
    for number, (what, changed) in enumerate(cases.items()):
        broken = context.tmp_path / f"broken-{number}"
        shutil.copytree(folder, broken, dirs_exist_ok=True)
        write_sharded(changed.items(), broken)
        module = family.build(broken, head="causal_lm", dtype=torch.float32, device="cpu")
        name = "no.such.weight" if "unknown" in what else first
        _refused(partial(family.load_weights, module, broken), what, mentions=name)


def pickled_weights_are_refused(context: ContractContext) -> None:
    import torch

    family, folder, _ = _new_model(context)
    module = family.build(folder, head="causal_lm", dtype=torch.float32, device="cpu")
    pickled = context.tmp_path / "pickled"
    pickled.mkdir(exist_ok=True)
    shutil.copyfile(folder / "config.json", pickled / "config.json")
    torch.save(dict(family.export_weights(module)), pickled / "pytorch_model.bin")
    _refused(
        lambda: family.load_weights(module, pickled), "a folder with pickled weights only", mentions="pytorch_model.bin"
    )


CHECKS: tuple[Callable[[ContractContext], None], ...] = (
    sizes_make_configs_of_the_listed_architectures,
    unknown_sizes_and_keys_are_refused,
    saved_models_open_in_transformers_with_equal_logits,
    loaded_models_have_the_logits_of_from_pretrained,
    export_gives_each_tensor_once_under_the_names_of_the_file,
    value_models_start_at_zero_on_the_same_backbone,
    wrong_tensors_are_refused_by_name,
    pickled_weights_are_refused,
)


def _new_model(context: ContractContext) -> tuple[ModelFamily, Path, Any]:
    """The family, a folder with one of its smallest models, and the module that was saved there.

    A family without sizes is tried on the suite's tiny model; the module is then None.
    """
    import torch

    family: ModelFamily = context.build()
    sizes = family.presets()
    if not sizes:
        return family, context.tiny_model(), None
    smallest = min(sizes, key=lambda size: sizes[size].get("hidden_size", 0) * sizes[size].get("num_hidden_layers", 1))
    config = family.create_config(smallest, {"vocab_size": VOCABULARY})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module: Any = family.build(config, head="causal_lm", dtype=torch.float32, device="cpu")
    folder = context.tmp_path / "model"
    family.save(family.export_weights(module), module.config, folder)
    return family, folder, module.eval()


def _token_ids() -> Any:
    import torch

    # Within every vocabulary in question: the suite's tiny model knows few tokens.
    return torch.tensor([[1, 5, 3, 2, 7, 4, 6, 8], [2, 2, 9, 1, 3, 5, 8, 4]])


def _refused(action: Callable[[], Any], what: str, *, mentions: str) -> None:
    try:
        action()
    except ModelError as error:
        assert mentions in str(error), f"the error for {what} does not name {mentions!r}: {error}"
        return
    raise AssertionError(f"{what} was accepted; a ModelError was expected")
