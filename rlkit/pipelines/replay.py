"""`rlkit replay`: the update of one step once more, from what the run has kept. Nothing is written into its folder.

newest whole checkpoint before the step, or the starting model
  -> the updates between, from their rollouts, with the run's own settings
  -> (with --set) the same state under the changed settings
  -> the update of the step -> its numbers beside the recorded ones
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rlkit.cluster.environment import set_environment_guards
from rlkit.config.revise import Revised, revise_config
from rlkit.config.runs import PPOConfig
from rlkit.data.order import EpochOrder
from rlkit.errors import CheckpointError, ConfigError, DataError
from rlkit.pipelines.algorithms import check_algorithm, needs_of
from rlkit.pipelines.assembly import locate
from rlkit.pipelines.checkpoint_content import CheckpointContent
from rlkit.pipelines.model_export import ModelExport
from rlkit.pipelines.ppo import assemble, build_roles, loop_settings
from rlkit.pipelines.training_place import TrainingPlace, prepare_driver
from rlkit.reports.replay_comparison import ReplayComparison, compare_replay
from rlkit.tracking.checkpoints import CheckpointStore, verify_checkpoint
from rlkit.tracking.recorded_metrics import recorded_metrics
from rlkit.tracking.rollouts_file import rollouts_path
from rlkit.tracking.run_folder import RunFolder
from rlkit.tracking.stored_rollouts import StoredStep, read_rollouts
from rlkit.trainers.ppo import PPOTrainer
from rlkit.trainers.ppo_state import PPOState
from rlkit.trainers.replay import Absent, RepeatedUpdate, repeat_update

CHANGEABLE = (
    "algorithm.", "actor.", "critic.", "reference.", "rollout_correction.", "reward.clip", "reward.normalise",
    "reward.overlong_", "model.", "placement.", "cluster.", "run.device", "run.threads", "run.seed",
)  # fmt: skip
"""Beginnings of the settings that a replay may change: all that the answers and their verdicts do not depend on."""


@dataclass(frozen=True)
class ReplayStart:
    """checkpoint None: the starting model (step 0)."""

    step: int
    checkpoint: Path | None


def run_replay(folder: Path, step: int, *, assignments: Sequence[str] = ()) -> ReplayComparison:
    """Repeat the update of `step` and compare. Raises `DataError`, `CheckpointError` or `ConfigError` where that cannot be."""
    set_environment_guards()
    run = RunFolder(folder)
    revised = _read_config(run, assignments)
    start = find_start(run, step)
    stored = read_rollouts(run.rollouts, step)
    recorded = recorded_metrics(run.metrics, step)
    check_algorithm(revised.revised)
    _check_paths(revised.revised)
    _check_stored(revised.revised, stored)
    repeated, drifted = _repeat(run, revised, start, stored)
    return compare_replay(
        stored, repeated, recorded, start=start.step, drifted=drifted, changed=revised.changed,
        shared_trunk=revised.revised.critic.shared_trunk,
    )  # fmt: skip


def _read_config(run: RunFolder, assignments: Sequence[str]) -> Revised:
    content = run.read()
    if not content:
        raise DataError(f"{run.path} holds no run (run.json is missing); give a folder such as runs/ppo")
    if content.get("kind") != "ppo":
        raise ConfigError(
            f"{run.path} holds a run of kind {content.get('kind')}; only those of rlkit train ppo can be replayed"
        )
    return revise_config(
        "ppo", content.get("config", {}), assignments, what=f"the config in {run.run_json}", allowed=CHANGEABLE
    )


def find_start(run: RunFolder, step: int) -> ReplayStart:
    """The newest whole checkpoint before `step` from which all rollouts are there, or the starting model.

    Raises `DataError` when the step itself has no rollouts, `CheckpointError` when no start leads to it.
    """
    if step < 1:
        raise ConfigError(f"--step {step}: steps are counted from 1")
    if not rollouts_path(run.rollouts, step).is_file():
        have = sorted(int(path.stem.removeprefix("step_")) for path in run.rollouts.glob("step_*.parquet"))
        which = (
            f"those of steps {_ranges(have)}" if have else "none: trainer.save_rollouts was off, or no step was done"
        )
        raise DataError(f"{run.path} has no rollouts of step {step}; it has {which}")
    store = CheckpointStore(run.checkpoints)
    faults: list[str] = []
    for saved in [saved for saved in reversed(store.steps()) if saved < step]:
        missing = _missing(run, saved, step)
        if missing:
            break
        try:
            verify_checkpoint(store.path(saved), step=saved)
        except CheckpointError as error:
            faults.append(str(error))
            continue
        return ReplayStart(saved, store.path(saved))
    missing = _missing(run, 0, step)
    if not missing:
        return ReplayStart(0, None)
    found = f"{'; '.join(faults)}; " if faults else ""
    raise CheckpointError(
        f"step {step} cannot be replayed: {found}no whole checkpoint of a step before it from which all rollouts are there "
        f"(from the starting model on, those of steps {_ranges(missing)} are missing); set trainer.checkpoint_every and "
        "trainer.keep_checkpoints so that there are checkpoints near the steps to be looked at"
    )


def _missing(run: RunFolder, start: int, step: int) -> list[int]:
    """Steps after `start`, up to `step`, without rollouts."""
    return [number for number in range(start + 1, step + 1) if not rollouts_path(run.rollouts, number).is_file()]


def _check_stored(config: PPOConfig, stored: StoredStep) -> None:
    """Raises `DataError` when the settings ask for something that the step did not record."""
    needs = needs_of(config)
    if needs.greedy_baseline and stored.greedy is None:
        raise DataError(
            f"algorithm.advantage = {config.algorithm.advantage} compares with greedy answers, and the rollouts of step "
            f"{stored.step} have none: the run did without, or was done by an older rlkit"
        )
    if stored.rollouts.rollout_log_probs is None and config.rollout_correction.bypass:
        raise DataError(f"rollout_correction.bypass reads the engine's log-probs, and step {stored.step} has none")


def _check_paths(config: PPOConfig) -> None:
    """Raises `ConfigError` for models that are not where the run had them."""
    for key, path in (
        ("model.path", config.model.path),
        ("critic.path", config.critic.path),
        ("reference.path", config.reference.path),
    ):
        # A Hub id has one slash and no folder of that name either: the run's own look-up decides about those.
        if path and not Path(path).expanduser().exists() and (path.count("/") != 1 or path.startswith((".", "~"))):
            raise ConfigError(
                f"{key} = {path} does not exist; a relative path of a run is seen from the folder in which it was started: "
                f"replay from there, or give --set {key}=..."
            )


def _repeat(
    run: RunFolder, revised: Revised, start: ReplayStart, stored: StoredStep
) -> tuple[RepeatedUpdate, int | None]:
    """The repeated update, and the first step before it whose log-probs were not those recorded."""
    drifted: int | None = None
    between = range(start.step + 1, stored.step)
    with tempfile.TemporaryDirectory(prefix="rlkit-replay-") as aside:
        if revised.changed and between:
            with _models(revised.recorded, start.checkpoint) as models:
                drifted = models.advance(run, between)
                models.hand_on(Path(aside) / "state")
            start, between = ReplayStart(stored.step - 1, Path(aside) / "state"), range(0)
        with _models(revised.revised, start.checkpoint) as models:
            if between:
                drifted = models.advance(run, between)
            if "algorithm.kl_in_reward" in revised.changed:
                models.trainer.state.kl_coefficient = revised.revised.algorithm.kl_in_reward
            return repeat_update(models.trainer, stored), drifted


@dataclass(frozen=True)
class _Models:
    """A trainer without engine and rewards, in the state before some step."""

    trainer: PPOTrainer
    content: CheckpointContent

    def advance(self, run: RunFolder, steps: Sequence[int]) -> int | None:
        """Repeat the updates of `steps`; returns the first whose log-probs were not those recorded, if any."""
        drifted: int | None = None
        for step in steps:
            stored = read_rollouts(run.rollouts, step)
            done = repeat_update(self.trainer, stored).experience
            recorded = stored.tokens.get("old_log_probs")
            if drifted is None and recorded is not None and not recorded.values.equal(done.old_log_probs.values):
                drifted = step
        return drifted

    def hand_on(self, folder: Path) -> None:
        """Write the present state as a checkpoint."""
        folder.mkdir(parents=True)
        self.content.stage(folder)()


@contextmanager
def _models(config: PPOConfig, checkpoint: Path | None) -> Iterator[_Models]:
    """The models of the run as `checkpoint` has them, or as the run began."""
    device = prepare_driver(config)
    with TrainingPlace(config, device=device) as place:
        located = locate(config.model)
        roles = build_roles(config, located, place.backend(), device)
        state = PPOState(kl_coefficient=config.algorithm.kl_in_reward)
        content = CheckpointContent(
            roles.with_state(), state, _order(checkpoint), roles.actor, ModelExport(located), config.actor.lora
        )
        absent = {name: cast(Any, Absent(name)) for name in ("engine", "scorer", "prompts", "weight_sync", "events")}
        if checkpoint is not None:
            content.restore(checkpoint)
        parts = assemble(
            config, located, roles, absent["engine"], absent["scorer"], absent["prompts"], None, absent["weight_sync"]
        )
        if checkpoint is not None:
            content.restore_random_state(checkpoint)
        yield _Models(PPOTrainer(loop_settings(config), parts, state, absent["events"]), content)


def _order(checkpoint: Path | None) -> EpochOrder:
    """The data order of the checkpoint, which no replay reads."""
    if checkpoint is None:
        return EpochOrder(1, seed=0)
    try:
        content = json.loads((checkpoint / "state" / "trainer.json").read_text(encoding="utf-8"))
        return EpochOrder.from_state(content["order"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"checkpoint {checkpoint} has no readable state ({type(error).__name__}: {error})"
        ) from error


def _ranges(numbers: Sequence[int]) -> str:
    """`1-4, 7`"""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
