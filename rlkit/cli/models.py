"""`rlkit models`: make a small model, look at one, copy one out of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlkit.cli.command import Command
from rlkit.errors import ModelError

if TYPE_CHECKING:
    from rlkit.models.describe import ModelDescription
    from rlkit.types.adapter import AdapterWeights

models_app = typer.Typer(
    name="models",
    help="Create, inspect and export models.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@models_app.command("create", cls=Command)
def create(
    folder: Annotated[Path, typer.Argument(help="Folder to write; must not exist or be empty.")],
    family: Annotated[str, typer.Option(help="Model family plugin, such as qwen3 or llama.")],
    size: Annotated[str, typer.Option(help="One of the family's sizes; tiny and small suit a CPU.")] = "tiny",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the model's config; may be repeated."),
    ] = None,
    tokenizer: Annotated[str, typer.Option(help="char, byte, bpe, or a folder with a tokenizer.")] = "byte",
    tokenizer_data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Text (.txt, .json, .jsonl) that char takes its characters from and bpe is trained on; may be repeated."
        ),
    ] = None,
    alphabet: Annotated[str, typer.Option(help="Characters of a char tokenizer, besides those in the data.")] = "",
    vocab_size: Annotated[int, typer.Option(min=0, help="Tokens of a bpe tokenizer; 0 means 2048.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random weights.")] = 0,
    as_json: _JSON = False,
) -> None:
    """Make a model of a real architecture with random weights and its own tokenizer."""
    from rlkit.models.create import create_model
    from rlkit.models.describe import describe_model

    create_model(
        folder,
        family=family,
        size=size,
        overrides=dict(_assignment(text) for text in assignments or ()),
        tokenizer=tokenizer,
        tokenizer_data=tokenizer_data or (),
        alphabet=alphabet,
        vocab_size=vocab_size,
        seed=seed,
    )
    _show(describe_model(folder), as_json=as_json)


@models_app.command("inspect", cls=Command)
def inspect(
    folder: Annotated[str, typer.Argument(help="Model, run or checkpoint folder, or a Hub id.")], as_json: _JSON = False
) -> None:
    """Show what a model is: architecture, sizes, files, tokenizer. Reads no weights."""
    from rlkit.models.describe import describe_model
    from rlkit.models.locate import locate_model

    _show(describe_model(locate_model(folder)), as_json=as_json)


@models_app.command("export", cls=Command)
def export(
    source: Annotated[Path, typer.Argument(help="Run, checkpoint or model folder.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist or be empty.")],
    step: Annotated[
        str,
        typer.Option(
            help="Checkpoint of a run: a step, best or last; left out, what the run ended with, or else the last one."
        ),
    ] = "",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16; left out, the stored type is kept.")] = "",
    adapter_only: Annotated[
        bool,
        typer.Option("--adapter-only", help="The adapter of a run with LoRA as peft opens it; else it is merged in."),
    ] = False,
    as_json: _JSON = False,
) -> None:
    """Copy the model of a run or checkpoint to a folder that transformers opens; hashes and the copy are verified."""
    from rlkit.models.describe import describe_model
    from rlkit.models.export import export_adapter, export_model

    if adapter_only:
        _show_adapter(out, export_adapter(source, out, step=step, dtype=dtype), as_json=as_json)
        return
    export_model(source, out, step=step, dtype=dtype)
    _show(describe_model(out), as_json=as_json)


def _show_adapter(folder: Path, adapter: AdapterWeights, *, as_json: bool) -> None:
    parameters = sum(matrix.numel() for pair in adapter.layers.values() for matrix in pair)
    facts = {"folder": str(folder), "rank": adapter.rank, "layers": len(adapter.layers), "parameters": parameters}
    lines = [
        f"{name:<10}  {value:,}" if isinstance(value, int) else f"{name:<10}  {value}" for name, value in facts.items()
    ]
    typer.echo(json.dumps(facts, indent=2) if as_json else "\n".join(lines))


def _assignment(text: str) -> tuple[str, Any]:
    """`hidden_size=64` as a key and a value: JSON where it is JSON, else the text itself."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ModelError(f"--set '{text}' is not KEY=VALUE; for example --set hidden_size=64")
    try:
        return key.strip(), json.loads(value)
    except ValueError:
        return key.strip(), value


def _show(description: ModelDescription, *, as_json: bool) -> None:
    typer.echo(json.dumps(_as_json(description), indent=2) if as_json else "\n".join(_as_text(description)))


def _as_json(description: ModelDescription) -> dict[str, Any]:
    from dataclasses import asdict

    shape = asdict(description.shape)
    return {
        "folder": str(description.folder),
        "family": description.family or None,
        **shape,
        "files": dict(description.files),
        "tokenizer": None if description.tokenizer is None else asdict(description.tokenizer),
        "needs_own_code": description.needs_own_code,
    }


def _as_text(description: ModelDescription) -> list[str]:
    shape = description.shape
    parts = ", ".join(f"{part} {count:,}" for part, count in shape.parameters_by_part.items())
    total_bytes = sum(description.files.values())
    rows = {
        "folder": str(description.folder),
        "architecture": shape.architecture,
        "family": description.family or "none lists it (transformers' own implementation, if there is one)",
        "parameters": f"{shape.num_parameters:,} ({parts})",
        "shape": (
            f"{shape.num_layers} layers, hidden {shape.hidden_size}, MLP {shape.intermediate_size}, "
            f"{shape.num_heads} heads of {shape.head_dim} ({shape.num_kv_heads} key-value)"
        ),
        "vocabulary": f"{shape.vocab_size:,}, embeddings {'tied' if shape.tied_embeddings else 'not tied'}",
        "context": f"{shape.context_length:,} tokens",
        "dtype": shape.dtype,
        "files": f"{len(description.files)} safetensors, {total_bytes:,} bytes",
        "tokenizer": _tokenizer_text(description),
    }
    if description.needs_own_code:
        rows["own code"] = (
            "config.json names Python code of its own (auto_map); it runs only with model.trust_remote_code"
        )
    width = max(map(len, rows))
    return [f"{name:<{width}}  {text}" for name, text in rows.items()]


def _tokenizer_text(description: ModelDescription) -> str:
    facts = description.tokenizer
    if facts is None:
        return "none"
    count = "" if facts.num_tokens is None else f", {facts.num_tokens:,} tokens"
    template = "with a chat template" if facts.has_chat_template else "without a chat template"
    return f"{facts.class_name}{count}, eos {facts.eos_token or 'none'}, pad {facts.pad_token or 'none'}, {template}"
