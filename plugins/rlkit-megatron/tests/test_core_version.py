from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from rlkit_megatron.backend import MegatronBackend
from rlkit_megatron.core_version import VERSIONS, check_version

from rlkit.errors import MissingRequirementError


def test_the_range_is_that_of_the_metadata():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (declared,) = (Requirement(text) for text in project["dependencies"] if text.startswith("megatron-core"))
    assert declared.specifier == VERSIONS
    assert check_version() == importlib.metadata.version("megatron-core")


@pytest.mark.parametrize("version", ["0.15.3", "0.18.0"])
def test_another_release_is_refused_before_anything_is_built(monkeypatch: pytest.MonkeyPatch, version: str):
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    with pytest.raises(MissingRequirementError, match=rf"installed is {version}; pip install 'megatron-core"):
        MegatronBackend()
