"""The entry points: strings only, so that listing plugins imports nothing."""

from __future__ import annotations

from rlkit.plugin import PluginKind, PluginSpec

tensorboard = PluginSpec(
    kind=PluginKind.HOOK,
    target="rlkit_trackers.hooks:tensorboard",
    config="rlkit_trackers.options:TensorBoardOptions",
    summary="Metrics, config and sampled answers as TensorBoard event files in the run folder",
    requires=("tensorboard",),
    install_hint='pip install "rlkit-trackers[tensorboard]"',
)
wandb = PluginSpec(
    kind=PluginKind.HOOK,
    target="rlkit_trackers.hooks:wandb",
    config="rlkit_trackers.options:WandbOptions",
    summary="Metrics, config and sampled answers to Weights & Biases, online or offline",
    requires=("wandb",),
    install_hint='pip install "rlkit-trackers[wandb]"',
)
mlflow = PluginSpec(
    kind=PluginKind.HOOK,
    target="rlkit_trackers.hooks:mlflow",
    config="rlkit_trackers.options:MLflowOptions",
    summary="Metrics, config and sampled answers to an MLflow server or a local store",
    requires=("mlflow",),
    install_hint='pip install "rlkit-trackers[mlflow]"',
)
trackio = PluginSpec(
    kind=PluginKind.HOOK,
    target="rlkit_trackers.hooks:trackio",
    config="rlkit_trackers.options:TrackioOptions",
    summary="Metrics, config and sampled answers to trackio, on this machine or in a Space",
    requires=("trackio",),
    install_hint='pip install "rlkit-trackers[trackio]"',
)
