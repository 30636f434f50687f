from __future__ import annotations

import subprocess
import sys

import pytest

from rlkit.config.explain import describe_keys
from rlkit.tracking.headline_metrics import HEADLINES
from rlkit.tracking.metric_table import AREAS, METRICS, find_metric

UNITS = {
    "",
    "share",
    "nats",
    "tokens",
    "tokens/s",
    "answers",
    "replicas",
    "workers",
    "calls",
    "answers/s",
    "prompts",
    "steps",
    "s",
    "ms",
    "bytes",
    "FLOP/s",
}


@pytest.mark.parametrize("entry", METRICS, ids=lambda entry: f"{entry.name}-{'-'.join(entry.runs)}")
def test_entries_have_a_heading_a_unit_and_a_meaning(entry):
    assert entry.area in AREAS
    assert entry.unit in UNITS
    assert len(entry.meaning) > 3
    assert set(entry.runs) <= {"ppo", "sft", "generate"}


def test_no_name_is_described_twice_for_one_kind_of_run():
    described = [(kind, pattern) for entry in METRICS for kind in entry.runs for pattern in entry.patterns]
    assert len(described) == len(set(described))


def test_every_area_is_used():
    assert {entry.area for entry in METRICS} == set(AREAS)


def test_keys_that_are_named_exist():
    leaves = {key.key.rpartition(".")[2] for key in describe_keys()} | {key.key for key in describe_keys()}
    for entry in METRICS:
        for quoted in entry.when.split("`")[1::2]:
            words = quoted.split(" = ")[0].removesuffix("_*")
            assert words in leaves or find_loss(words), f"{entry.name}: {quoted}"


def find_loss(name):
    from rlkit.plugin.discovery import installed_plugins

    return any(plugin.name == name for plugin in installed_plugins())


def test_what_a_person_watches_is_in_the_table():
    for kind, headlines in HEADLINES.items():
        for headline in headlines:
            entry = find_metric(headline.metric)
            assert entry is not None
            assert kind in entry.runs


def test_a_metric_of_a_plugin_is_not_in_the_table():
    assert find_metric("acme/speed") is None


def test_the_table_needs_no_torch():
    code = "import sys, rlkit.tracking.metric_table; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
