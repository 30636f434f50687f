"""What MLflow itself finds in a local store; run where mlflow or mlflow-skinny is installed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow


@pytest.fixture
def uri(tmp_path):
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def only_run(uri):
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("e")
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def test_metrics_config_answers_and_checkpoints_are_in_the_store(play, uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not play("mlflow", tracking_uri=uri, experiment="e", answers_every=2, answers=2).failures
    client, run = only_run(uri)
    assert (run.info.run_name, run.info.status) == ("played", "FINISHED")
    means = client.get_metric_history(run.info.run_id, "reward/mean")
    assert [(metric.step, metric.value) for metric in means] == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert math.isnan(client.get_metric_history(run.info.run_id, "actor/grad_norm")[0].value)
    assert run.data.params["actor.lr"] == "0.001" and run.data.params["actor.betas"] == "[0.9, 0.99]"
    assert run.data.tags["checkpoint.folder"].endswith("step_000004")
    path = client.download_artifacts(run.info.run_id, "answers/training/step_000002.json", str(tmp_path))
    assert json.loads(Path(path).read_text(encoding="utf-8"))["data"][0][1] == "a2"


def test_a_resumed_run_is_the_same_run(play, uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    play("mlflow", tracking_uri=uri, experiment="e", last=2, status="interrupted")
    assert only_run(uri)[1].info.status == "KILLED"
    play("mlflow", tracking_uri=uri, experiment="e", first=2, last=4)
    client, run = only_run(uri)
    assert run.info.status == "FINISHED"
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "reward/mean")] == [1, 2, 3, 4]


def test_steps_done_again_are_there_once_and_odd_names_are_taken(play, uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = {
        "tracking_uri": uri,
        "experiment": "e",
        "metrics": lambda step: {"reward/part/50 % (own)": 1.0, "a//../b": 1.0},
    }
    play("mlflow", last=3, status="failed", **odd)
    play("mlflow", first=1, last=4, **odd)
    client, run = only_run(uri)
    history = client.get_metric_history(run.info.run_id, "reward/part/50 _ _own_")
    assert [metric.step for metric in history] == [1, 2, 3, 4]
    assert "b" in run.data.metrics
