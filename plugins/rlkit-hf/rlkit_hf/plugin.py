"""What the distribution offers, as strings: nothing is imported here."""

from __future__ import annotations

from rlkit.plugin import PluginKind, PluginSpec

engine = PluginSpec(
    kind=PluginKind.ROLLOUT_ENGINE,
    target="rlkit_hf.engine:HFEngine",
    config="rlkit_hf.options:HFEngineOptions",
    summary="transformers in this process, with its own batched decoding; CPU or one GPU",
    requires=("torch", "transformers"),
    install_hint="pip install rlkit-hf",
)

family = PluginSpec(
    kind=PluginKind.MODEL_FAMILY,
    target="rlkit_hf.family:auto",
    summary="any causal language model that transformers implements; used when no other family answers",
    requires=("torch", "transformers"),
    install_hint="pip install rlkit-hf",
)
