"""What is installed, what is missing, what is wrong, and the way out of each."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.version import Version

from rlkit import __version__
from rlkit.pipelines.memory import write_bytes
from rlkit.plugin.describe import describe_plugin
from rlkit.plugin.discovery import installed_plugins
from rlkit.plugin.references import describe_error
from rlkit.plugin.spec import PluginKind


@dataclass(frozen=True)
class Finding:
    """One line of the report. missing: not there and not needed; wrong: something will fail."""

    topic: str
    name: str
    state: Literal["ok", "missing", "wrong"]
    detail: str
    remedy: str = ""


OLDEST_PYTHON = (3, 11)
OLDEST = {"torch": "2.11", "transformers": "5.17"}
"""What rlkit was tested against at the oldest."""
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow", "pydantic", "typer", "copier")
EXTRAS = (
    ("datasets", "datasets", "data sets from the Hugging Face Hub", "pip install 'rlkit-llm[hub]'"),
    ("ray", "ray", "replicas of a rollout engine", "pip install 'rlkit-llm[ray]'"),
    ("starlette", "starlette", "rlkit serve", "pip install 'rlkit-llm[serve]'"),
    ("uvicorn", "uvicorn", "rlkit serve", "pip install 'rlkit-llm[serve]'"),
    ("huggingface-hub", "huggingface_hub", "models from the Hugging Face Hub", "pip install huggingface-hub"),
)
"""Optional distributions: name, module, what for, how to get it."""
FOLDED_KINDS = (PluginKind.ADVANTAGE_ESTIMATOR, PluginKind.POLICY_LOSS)
"""Kinds of which one distribution has many: those that are in order share a line; `rlkit plugins list` names them."""
WANTED_KINDS = {
    PluginKind.MODEL_FAMILY: "pip install rlkit-hf rlkit-qwen rlkit-llama",
    PluginKind.ROLLOUT_ENGINE: "pip install rlkit-hf",
    PluginKind.ACTOR_BACKEND: "pip install rlkit-fsdp",
    PluginKind.REWARD_FUNCTION: "pip install rlkit-rewards",
}
"""Without one of each, some command cannot run."""


def diagnose() -> Iterator[Finding]:
    """All findings, cheap ones first; torch is imported for the devices only."""
    yield from _machine()
    yield from _libraries()
    yield from _devices()
    yield from _plugins()
    yield from _extras()


def _machine() -> Iterator[Finding]:
    version = platform.python_version()
    if sys.version_info >= OLDEST_PYTHON:
        yield Finding("machine", "python", "ok", f"{version} ({sys.executable})")
    else:
        yield Finding("machine", "python", "wrong", f"{version} is older than 3.11", "install Python 3.11 or newer")
    yield Finding("machine", "rlkit", "ok", __version__)
    yield Finding("machine", "system", "ok", f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield Finding(
        "machine",
        "cores",
        "ok",
        f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    yield Finding("machine", "memory", "ok", write_bytes(memory))
    free = shutil.disk_usage(Path.cwd()).free
    yield Finding("machine", "disk", "ok", f"{write_bytes(free)} free here")


def _libraries() -> Iterator[Finding]:
    for name in LIBRARIES:
        version = _version(name)
        if version is None:
            yield Finding("libraries", name, "wrong", "not installed", f"pip install {name}")
        elif name in OLDEST and Version(version) < Version(OLDEST[name]):
            yield Finding(
                "libraries",
                name,
                "wrong",
                f"{version}, needs {OLDEST[name]} or newer",
                f"pip install '{name}>={OLDEST[name]}'",
            )
        else:
            yield Finding("libraries", name, "ok", version)
    yield from _mismatched_companions()


def _mismatched_companions() -> Iterator[Finding]:
    """torchvision and torchaudio are built for one torch; another one makes `import transformers` fail."""
    torch = _version("torch")
    for name in ("torchvision", "torchaudio"):
        version = _version(name)
        if version is None or torch is None:
            continue
        of_another_build = version.partition("+")[2] != torch.partition("+")[2]
        if of_another_build or not _accepts_torch(name, torch):
            yield Finding(
                "libraries",
                name,
                "wrong",
                f"{version} does not belong to torch {torch}: importing transformers may fail",
                f"pip uninstall {name} (rlkit does not use it)",
            )


def _accepts_torch(distribution: str, torch: str) -> bool:
    """Whether the distribution's own requirements allow this torch."""
    needs = [Requirement(text) for text in metadata.requires(distribution) or ()]
    return all(need.specifier.contains(torch, prereleases=True) for need in needs if need.name == "torch")


def _devices() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:
        yield Finding("devices", "torch", "wrong", describe_error(error), "reinstall torch")
        return
    yield Finding("devices", "cpu", "ok", f"{torch.get_num_threads()} threads")
    if not torch.cuda.is_available():
        yield Finding("devices", "cuda", "missing", "torch sees no CUDA device: runs use the CPU")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield Finding("devices", f"cuda:{index}", "ok", f"{properties.name}, {write_bytes(properties.total_memory)}")


def _plugins() -> Iterator[Finding]:
    plugins = installed_plugins()
    folded: dict[str, list[str]] = {}
    for plugin in plugins:
        name = plugin.name
        if plugin.state == "disabled":
            yield Finding("plugins", name, "missing", f"{plugin.kind.label} from {plugin.origin}, disabled")
            continue
        if plugin.state == "conflict":
            others = [p.distribution for p in plugins if (p.kind, p.name) == (plugin.kind, name) and p is not plugin]
            yield Finding(
                "plugins",
                name,
                "wrong",
                f"{plugin.kind.label} from {plugin.origin} and from {', '.join(others)}",
                "uninstall one of them, or disable it with RLKIT_DISABLED_PLUGINS",
            )
            continue
        description = describe_plugin(plugin)
        detail = f"{plugin.kind.label} from {plugin.origin}"
        if description.missing:
            hint = description.install_hint or f"pip install {' '.join(description.missing)}"
            yield Finding("plugins", name, "missing", f"{detail}: {description.problem}", hint)
        elif description.problem:
            remedy = f"upgrade or uninstall {plugin.distribution}; nothing else is affected"
            yield Finding("plugins", name, "wrong", description.problem, remedy)
        elif plugin.kind in FOLDED_KINDS:
            folded.setdefault(detail, []).append(name)
        else:
            yield Finding("plugins", name, "ok", detail)
    for detail, names in folded.items():
        yield Finding("plugins", names[0] if len(names) == 1 else f"{len(names)} plugins", "ok", detail)
    for kind, remedy in WANTED_KINDS.items():
        if not any(plugin.kind is kind and plugin.state == "ok" for plugin in plugins):
            yield Finding("plugins", kind.label, "wrong", f"no {kind.label} is installed", remedy)


def _extras() -> Iterator[Finding]:
    from rlkit.rewards.sandbox.availability import diagnose_sandbox

    sandbox = diagnose_sandbox()
    state: Literal["ok", "missing"] = "ok" if sandbox.works else "missing"
    remedy = "" if sandbox.works else f"to run code (reward `code`): {sandbox.remedy}"
    yield Finding("extras", "bubblewrap", state, sandbox.detail, remedy)
    for distribution, module, purpose, remedy in EXTRAS:
        version = _version(distribution)
        if version is not None and importlib.util.find_spec(module) is not None:
            yield Finding("extras", distribution, "ok", version)
        else:
            yield Finding("extras", distribution, "missing", purpose, remedy)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
