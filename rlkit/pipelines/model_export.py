"""A training run's model as Hugging Face opens it, beside training."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor
from transformers import AutoConfig

from rlkit.cluster.spread_models import exported_model
from rlkit.errors import ModelError
from rlkit.models.export import copy_companions
from rlkit.pipelines.assembly import LocatedModel


@dataclass
class ModelExport:
    """Writes weights with the config, tokenizer and generation config of the model that the run began with."""

    located: LocatedModel
    _companions: dict[str, bytes] = field(default_factory=dict)

    def stage(self, named_tensors: Iterable[tuple[str, Tensor]], folder: Path) -> Callable[[], None]:
        """Put the tensors where training does not reach them; the result does what is left, from any thread.

        folder   the export, which is not there yet

        Those of this process are copied into host memory and written later. Those of a model that is spread over ranks are
        gathered and written at once, one after the other: a copy of all of them would be the whole model in one process.
        """
        companions = self._read_companions()
        copies: list[tuple[str, Tensor]] | None = None
        if exported_model(named_tensors) is not None:
            self._write_gathered(named_tensors, folder)
        else:
            copies = [(name, tensor.detach().to("cpu", copy=True)) for name, tensor in named_tensors]

        def write() -> None:
            if copies is not None:
                self._write_weights(copies, folder)
            for name, content in companions.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(content)

        return write

    def _write_gathered(self, named_tensors: Iterable[tuple[str, Tensor]], folder: Path) -> None:
        try:
            self._write_weights(named_tensors, folder)
        except (OSError, ModelError):
            # The ranks stand in the middle of it, and put their models back into place at the end only.
            for _ in named_tensors:
                pass
            raise

    def _write_weights(self, named_tensors: Iterable[tuple[str, Tensor]], folder: Path) -> None:
        folder.mkdir()
        self.located.family.save(named_tensors, AutoConfig.from_pretrained(self.located.folder), folder)

    def _read_companions(self) -> dict[str, bytes]:
        """Read once, in the training thread: saving a tokenizer while it is in use in another thread fails."""
        if not self._companions:
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                self.located.tokenizer.save_pretrained(folder)
                copy_companions(self.located.folder, folder)
                files = (path for path in folder.rglob("*") if path.is_file())
                self._companions |= {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
        return self._companions
