"""The contract suites of rlkit.testing on the real vLLM. Checks borrow one engine, given back its first weights in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rlkit.models.safetensors_io import stream_tensors
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import LoadedPlugin, load_plugin
from rlkit.rollout.engine_model import EngineModel
from rlkit.testing import ContractCheck, ContractContext, contract_checks

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm_on_cpu")]

OWN_ENGINE = ("closing-twice-is-harmless", "an-adapter-answers-as-the-merged-model")
"""The latter needs one that was built for adapters."""

CHECKS = sorted(contract_checks(PluginKind.ROLLOUT_ENGINE), key=lambda check: check.name in OWN_ENGINE)


class Borrowed:
    """An engine that goes back to its owner instead of being closed."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        pass


class Owner:
    """Builds the engine when it is first asked for."""

    def __init__(self) -> None:
        self.engine: Any = None
        self.folder: Path | None = None

    def lend(self, context: ContractContext, model: EngineModel) -> Borrowed:
        if self.engine is None:
            self.engine, self.folder = ContractContext.build(context, model=model), model.folder
        assert self.folder == model.folder
        assert not self.engine.has_work, "the check before left requests behind"
        self.engine.resume(["weights", "kv_cache"])
        self.engine.update_weights(stream_tensors(model.folder), 0)
        return Borrowed(self.engine)

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()
            self.engine = None


@dataclass(frozen=True, kw_only=True)
class BorrowingContext(ContractContext):
    owner: Owner

    def build(self, **context: Any) -> Any:
        return self.owner.lend(self, context["model"])


@pytest.fixture(scope="module")
def owner() -> Iterator[Owner]:
    owner = Owner()
    yield owner
    owner.close()


@pytest.fixture(scope="module")
def plugin(vllm_on_cpu: None) -> LoadedPlugin:
    return load_plugin(PluginKind.ROLLOUT_ENGINE, "vllm")


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_contract(check: ContractCheck, plugin: LoadedPlugin, owner: Owner, tmp_path: Path) -> None:
    if check.name in OWN_ENGINE:
        owner.close()  # a process holds one
        check(ContractContext(plugin=plugin, tmp_path=tmp_path))
    else:
        check(BorrowingContext(plugin=plugin, tmp_path=tmp_path, owner=owner))
