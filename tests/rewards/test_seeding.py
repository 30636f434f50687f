"""Seeding must never fail, whatever the function has done to the modules that have generators."""

from __future__ import annotations

import random
import sys
from types import ModuleType

import pytest

from rlkit.rewards.seeding import GeneratorSeeder


@pytest.mark.parametrize("name", ["numpy.random", "torch"])
@pytest.mark.parametrize("module", [None, ModuleType("half imported")])
def test_a_module_that_is_missing_or_half_imported_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, name: str, module: ModuleType | None
) -> None:
    monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]
    GeneratorSeeder().seed(7)
    drawn = random.random()
    GeneratorSeeder().seed(7)
    assert random.random() == drawn
