"""What a run's models cost and what its device can do, for the speed metrics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rlkit.cluster.peak_flops import PeakFlops
from rlkit.config.runs import PPOConfig, SFTConfig
from rlkit.config.sections import LoraSection
from rlkit.models.flops import MatmulShape, read_matmul_shape
from rlkit.models.locate import locate_model
from rlkit.pipelines.algorithms import needs_of
from rlkit.tracking.run_folder import LOGGER
from rlkit.trainers.performance import WorkMeter


def build_ppo_meter(config: PPOConfig, folder: Path, peak: PeakFlops) -> WorkMeter:
    """Of the roles that the run has; `folder` holds its model, and `peak` is that of all its devices."""
    reference = critic = None
    if config.uses_reference:
        reference = read_matmul_shape(locate_model(config.reference.path) if config.reference.path else folder)
    if needs_of(config).critic:
        critic = _critic_shape(config, folder)
    policy = _trained(read_matmul_shape(folder), config.actor.lora)
    meter = WorkMeter(policy, reference, critic, trunk_is_shared=config.critic.shared_trunk)
    return _with_peak(meter, peak)


def build_sft_meter(config: SFTConfig, folder: Path, peak: PeakFlops) -> WorkMeter:
    """Of the model in `folder`; `peak` is that of all its devices."""
    return _with_peak(WorkMeter(_trained(read_matmul_shape(folder), config.sft.lora)), peak)


def _critic_shape(config: PPOConfig, folder: Path) -> MatmulShape:
    path = config.critic.path
    shape = read_matmul_shape(locate_model(path) if path else folder, value_head=True)
    if config.critic.shared_trunk:
        # The trunk's work is the policy's: what the critic adds is its head.
        return MatmulShape(layer_weights=0, head_weights=shape.head_weights, attention_width=0)
    return _trained(shape, config.critic.lora)


def _trained(shape: MatmulShape, lora: LoraSection) -> MatmulShape:
    return replace(shape, weights_are_frozen=lora.rank > 0)


def _with_peak(meter: WorkMeter, peak: PeakFlops) -> WorkMeter:
    origin = "measured with matrix products" if peak.measured else "run.peak_tflops or the maker's figure"
    LOGGER.info("peak: %.4g TFLOP/s (%s)", peak.flops / 1e12, origin)
    return replace(meter, peak=peak)
