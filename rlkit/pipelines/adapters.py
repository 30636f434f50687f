"""The adapter that a run with LoRA leaves beside its merged model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

from rlkit.config.sections import LoraSection
from rlkit.pipelines.assembly import new_folder


class Adapted(Protocol):
    def save_adapter(self, folder: Path) -> None: ...


def write_adapter(model: Adapted, section: LoraSection, target: Path) -> None:
    """Into `target`, whole; nothing when the model has none."""
    if section.rank:
        with new_folder(target) as aside:
            model.save_adapter(aside)


def copy_adapter(source: Path, target: Path) -> None:
    """A checkpoint's adapter to `target`, whole; nothing when it has none."""
    if source.is_dir():
        with new_folder(target) as aside:
            shutil.copytree(source, aside, dirs_exist_ok=True)
