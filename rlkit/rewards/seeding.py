"""Random generators that a reward function may draw from: Python's, NumPy's and PyTorch's, seeded before each judgement.

NumPy imports `numpy.random` when it is first used, and a function may import PyTorch when it is first called. So a worker
also seeds what is imported in the middle of a judgement: the first one would draw something else than those after it.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def _seed_numpy(module: Any, seed: int) -> None:
    seed_generator = getattr(module, "seed", None)
    if seed_generator is not None:
        seed_generator(seed % 2**32)


def _seed_torch(module: Any, seed: int) -> None:
    generator = getattr(module, "default_generator", None)
    if generator is not None:
        # Not `torch.manual_seed`: on a machine with a GPU each call before CUDA is used is put into an endless list.
        generator.manual_seed(seed)


_SEED: dict[str, Callable[[Any, int], None]] = {"numpy.random": _seed_numpy, "torch": _seed_torch}
"""By the name of the module that has the generator. A function that imports it in a thread of its own may be in the middle of
that: it is seeded when that is done."""


class GeneratorSeeder(MetaPathFinder):
    """Seeds the process's generators, those of modules that are imported later with the last seed."""

    def __init__(self) -> None:
        self._seed = 0

    def install(self) -> None:
        sys.meta_path.insert(0, self)

    def seed(self, seed: int) -> None:
        """`seed` has 64 bits."""
        self._seed = seed
        random.seed(seed)
        for name, seed_module in _SEED.items():
            if name in sys.modules:
                seed_module(sys.modules[name], seed)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders find, with a seed at the end of its import."""
        if fullname not in _SEED:
            return None
        finders = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in finders)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            self._seed_after(spec.loader, _SEED[fullname])
        return spec

    def _seed_after(self, loader: Any, seed_module: Callable[[Any, int], None]) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            seed_module(module, self._seed)

        loader.exec_module = exec_module
