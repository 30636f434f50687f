"""Write the reference pages from the code: docs/config.md, docs/cli.md, docs/hooks.md, docs/metrics.md.

python docs/generate.py            write them
python docs/generate.py --check    exit 1 when they are not what the code says
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from rlkit.cli.command_table import COMMANDS
from rlkit.cli.main import app, load_command
from rlkit.config.explain import KeyDescription, describe_keys
from rlkit.config.keys import section_of
from rlkit.config.runs import RUN_CONFIGS
from rlkit.plugin.hookspecs import RunHooks
from rlkit.tracking.metric_entry import MetricEntry
from rlkit.tracking.metric_table import AREAS, METRICS

FOLDER = Path(__file__).parent
COMMAND_OF_KIND = {"sft": "sft", "ppo": "train ppo", "generate": "generate", "serve": "serve", "eval": "eval"}


def config_page() -> str:
    """Every config key, by section."""
    lines = [
        "# Configuration",
        "",
        "Written by `make docs` from the code. A value comes from, in rising order: the default below, the project file",
        "(TOML, or YAML), the environment (`RLKIT__ACTOR__LR=1e-6`), `--set actor.lr=1e-6`, a plain flag (`--lr 1e-6`).",
        "`rlkit config show FILE` prints every value with where it came from, `rlkit config explain KEY` what a key means,",
        "and `rlkit config schema KIND` a JSON Schema for editors. Paths in a project file, "
        "those among plugins' options too, are relative to that file.",
        "",
        "| kind of run | command | sections |",
        "|---|---|---|",
    ]
    for kind, config_class in RUN_CONFIGS.items():
        sections = ", ".join(f"`{name}`" for name in config_class.model_fields)
        lines.append(f"| {kind} | `rlkit {COMMAND_OF_KIND[kind]}` | {sections} |")
    for section in dict.fromkeys(name for config_class in RUN_CONFIGS.values() for name in config_class.model_fields):
        lines += ["", f"## {section}", *_section_texts(section)]
        for key in describe_keys():
            if key.key.partition(".")[0] == section:
                lines += ["", *_key_lines(key, _kinds_with(section))]
    return "\n".join(lines) + "\n"


def _kinds_with(section: str) -> tuple[str, ...]:
    return tuple(kind for kind, config_class in RUN_CONFIGS.items() if section in config_class.model_fields)


def _section_texts(section: str) -> Iterator[str]:
    """What the section's classes say of themselves; two kinds of run may have different ones."""
    texts: dict[str, list[str]] = {}
    for kind in _kinds_with(section):
        section_class = section_of(RUN_CONFIGS[kind].model_fields[section].annotation)
        texts.setdefault(inspect.getdoc(section_class) or "", []).append(kind)
    for text, kinds in texts.items():
        yield ""
        yield text if len(texts) == 1 else f"For {', '.join(kinds)}: {text[:1].lower()}{text[1:]}"


def _key_lines(key: KeyDescription, kinds: tuple[str, ...]) -> Iterator[str]:
    only = "" if key.kinds == kinds else f" ({', '.join(key.kinds)} only)"
    yield f"**`{key.key}`** = `{key.default}`{only}  "
    yield f"{key.type}. {key.doc}"


def cli_page() -> str:
    """Every command with its arguments and options."""
    lines = [
        "# Command line",
        "",
        "Written by `make docs` from the code. `--help` works on every command. Errors are one line each on standard",
        "error; `rlkit --debug COMMAND` shows the traceback too.",
        "",
        "| exit code | meaning |",
        "|---|---|",
        *(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES),
    ]
    with typer.main.get_command(app).make_context("rlkit", ["doctor"]) as context:
        lines += ["", "## rlkit", "", *_parameter_lines(typer.main.get_command(app), context)]
    for entry in COMMANDS:
        for name, command in _flatten(f"rlkit {entry.name}", load_command(entry)):
            lines += ["", f"## {name}", "", *_command_lines(name, command)]
    return "\n".join(lines) + "\n"


EXIT_CODES = (
    (0, "done"),
    (1, "an error that is none of the following"),
    (2, "wrong settings or command line"),
    (3, "a plugin is missing, broken, or fails its checks"),
    (4, "a data file or model is missing or unusable"),
    (5, "a reward function, a tool, an environment or the rollout engine failed"),
    (6, "a checkpoint is damaged or of another run"),
    (7, "Ray, its training workers or the replicas of an engine failed"),
    (130, "stopped by Ctrl-C; the state is saved"),
)


def _flatten(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if not inner:
        yield name, command
        return
    for inner_name, inner_command in inner.items():
        yield from _flatten(f"{name} {inner_name}", inner_command)


def _command_lines(name: str, command: Any) -> Iterator[str]:
    with command.make_context(name, [], resilient_parsing=True) as context:
        usage = " ".join(command.collect_usage_pieces(context))
        yield f"`{name} {usage}`"
        yield ""
        yield inspect.cleandoc(command.help or "")
        yield ""
        yield from _parameter_lines(command, context)


def _parameter_lines(command: Any, context: Any) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            names, text = (" ".join(part.split()) for part in record)
            yield f"| `{names}` | {_escaped(text)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def hooks_page() -> str:
    """Every run event."""
    lines = [
        "# Run events",
        "",
        "Written by `make docs` from the code. A hook plugin has methods of these names, marked with `hookimpl`, and may",
        "leave out parameters that it does not need; [plugins/hook.md](plugins/hook.md) says how to make one.",
    ]
    for name, member in vars(RunHooks).items():
        if inspect.isfunction(member):
            parameters = ", ".join(list(inspect.signature(member).parameters)[1:])
            lines += ["", f"**`{name}({parameters})`**  ", inspect.getdoc(member) or ""]
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """Every metric that a run reports, by area."""
    lines = [
        "# Metrics",
        "",
        "Written by `make docs` from the code. Each step's are a line of `metrics.jsonl`, which reports and trackers read;",
        "hooks get them as they come ([run events](hooks.md)). `<part>` stands for any words, `<mean|max>` for each of those",
        "listed; a share lies between 0 and 1. An arrow tells the direction that one hopes for.",
        "",
        "A metric of a whole step is combined from its optimizer steps: means are weighted by the tokens in the loss, `_max`",
        "stays the largest, `lr` and `skipped_steps` are the newest. MFU counts what the model needs",
        "(6 x weights x tokens for an update, 2 x for a pass without gradients, attention by its causal half, of experts the",
        "chosen ones only; `rlkit/models/flops.py`), and is a share of `run.peak_tflops`, of the maker's figure for dense",
        "bfloat16, or on a CPU or an unknown device of a rate that is measured at the start.",
    ]
    for area, heading in AREAS.items():
        lines += ["", f"## {area}", "", f"{heading}.", "", "| metric | unit | | what | in |", "|---|---|---|---|---|"]
        lines += [_metric_line(entry) for entry in METRICS if entry.area == area]
    return "\n".join(lines) + "\n"


def _metric_line(entry: MetricEntry) -> str:
    name, when = entry.name.replace("|", "\\|"), f"; {entry.when}" if entry.when else ""
    arrow = {"up": "↑", "down": "↓", "neither": ""}[entry.better]
    return f"| `{name}` | {entry.unit} | {arrow} | {entry.meaning} | {', '.join(entry.runs)}{when} |"


PAGES: dict[str, Callable[[], str]] = {
    "config.md": config_page,
    "cli.md": cli_page,
    "hooks.md": hooks_page,
    "metrics.md": metrics_page,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is out of date")
    options = parser.parse_args()
    stale = []
    for name, page in PAGES.items():
        path, text = FOLDER / name, page()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not options.check:
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/{name}")
    if options.check and stale:
        print(f"out of date: {', '.join(stale)}; run `make docs`", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
