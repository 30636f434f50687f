from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlkit.cluster.spread_models import SpreadActor
from rlkit.cluster.spread_weight_sync import SharedWeightSync
from rlkit.types import AdapterWeights

ADAPTER = AdapterWeights(0.5, {"layer": (torch.ones(2, 3), torch.ones(4, 2))})


class Group:
    """Two ranks that note what is called; the export is two references."""

    size = 2

    def __init__(self, adapter: AdapterWeights | None) -> None:
        self.adapter = adapter
        self.calls: list[str] = []
        self.chunks = iter(["first", "second", None])

    def call(self, method: str, name: str, *arguments: Any) -> list[Any]:
        self.calls.append(method)
        return [True, True]

    def scatter(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        (called,) = {call[1] for call in arguments}
        self.calls.append(called)
        assert [call[-1] for call in arguments] == [True, False]  # the first rank alone answers
        return [self.adapter, None]

    def shared_chunk(self, name: str) -> Any:
        return next(self.chunks)


class Replicas:
    """An engine that notes what it gets."""

    def __init__(self, takes_adapters: bool) -> None:
        self.takes_adapters = takes_adapters
        self.got: list[Any] = []

    def update_adapter(self, adapter: AdapterWeights, version: int) -> None:
        self.got.append((adapter, version))

    def update_shared_weights(self, chunks: Iterable[Any], version: int) -> None:
        self.got.append((list(chunks), version))


def pushed(group: Group, *, takes_adapters: bool) -> list[Any]:
    engine: Any = Replicas(takes_adapters)
    actor = SpreadActor(group, "actor", chunk_bytes=8)  # type: ignore[arg-type]
    SharedWeightSync().push(actor, engine, 3)
    return engine.got  # type: ignore[no-any-return]


def test_an_adapter_is_collected_from_the_ranks_once() -> None:
    group = Group(ADAPTER)
    assert pushed(group, takes_adapters=True) == [(ADAPTER, 3)]
    assert group.calls == ["offers", "export_adapter"]


@pytest.mark.parametrize(
    "case",
    [
        SimpleNamespace(adapter=ADAPTER, takes_adapters=False, calls=["begin_export"]),
        SimpleNamespace(adapter=None, takes_adapters=True, calls=["offers", "export_adapter", "begin_export"]),
    ],
    ids=["plain engine", "actor without adapter"],
)
def test_otherwise_references_to_the_whole_weights_are_passed_on(case: Any) -> None:
    group = Group(case.adapter)
    assert pushed(group, takes_adapters=case.takes_adapters) == [(["first", "second"], 3)]
    assert group.calls == case.calls
