from __future__ import annotations

import pytest
import torch

from rlkit.cluster.weight_sync import DirectWeightSync, takes_adapters
from rlkit.testing.fakes import FakeActor, FakeEngine
from rlkit.types import AdapterWeights

ADAPTER = AdapterWeights(0.5, {"layer": (torch.ones(2, 3), torch.ones(4, 2))})


class AdaptedActor(FakeActor):
    adapter: AdapterWeights | None = ADAPTER

    def export_adapter(self):
        return self.adapter


class AdapterEngine(FakeEngine):
    takes_adapters = True

    def update_adapter(self, adapter, version):
        self.calls.append("update_adapter")
        self.adapter, self.version = adapter, version


class UnpreparedEngine(AdapterEngine):
    """As an engine that was not built for adapters."""

    takes_adapters = False


def test_an_adapter_travels_alone_to_an_engine_that_takes_it():
    engine = AdapterEngine()
    DirectWeightSync().push(AdaptedActor(), engine, 3)
    assert engine.calls == ["update_adapter"]
    assert engine.adapter is ADAPTER
    assert engine.version == 3


def actor_without_lora():
    actor = AdaptedActor()
    actor.adapter = None
    return actor


@pytest.mark.parametrize(
    ("actor", "engine"),
    [
        (AdaptedActor, FakeEngine),
        (AdaptedActor, UnpreparedEngine),
        (FakeActor, AdapterEngine),
        (actor_without_lora, AdapterEngine),
    ],
    ids=["plain-engine", "unprepared-engine", "plain-actor", "actor-without-lora"],
)
def test_otherwise_whole_weights_do(actor, engine):
    engine = engine()
    DirectWeightSync().push(actor(), engine, 2)
    assert engine.calls == ["update_weights"]
    assert engine.version == 2


def test_an_engine_takes_adapters_when_it_says_so():
    assert takes_adapters(AdapterEngine())
    assert not takes_adapters(FakeEngine())
    assert not takes_adapters(UnpreparedEngine())
