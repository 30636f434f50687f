"""An update repeated from its stored rollouts has the numbers of the run, to the bit."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from pyarrow import parquet

from rlkit.config.load import load_config
from rlkit.errors import CheckpointError, ConfigError, DataError
from rlkit.pipelines.ppo import run_ppo
from rlkit.pipelines.replay import run_replay

pytestmark = pytest.mark.slow

CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "critic-kl-running": (
        "ppo.toml",
        (
            "algorithm.kl_in_reward=0.05",
            "algorithm.kl_target=0.001",
            "algorithm.kl_horizon=1000",
            "algorithm.epochs=2",
            "reward.normalise=running",
            "actor.schedule=cosine",
            "critic.warmup_iterations=1",
        ),
    ),
    "correction": ("ppo.toml", ("rollout_correction.preset=geo_rs_token_tis", "algorithm.kl_loss=0.01")),
    "bypass": ("grpo.toml", ("rollout_correction.preset=bypass_pg_seq_tis",)),
    "dynamic-sampling": (
        "grpo.toml",
        ("algorithm.sampling_rounds=3", "algorithm.kl_loss=0.01", "algorithm.mask_truncated=true"),
    ),
    "lora": ("grpo.toml", ("actor.lora.rank=4", "algorithm.kl_loss=0.01", "actor.lr=0.01")),
    "shared-trunk": ("ppo.toml", ("critic.shared_trunk=true", "critic.warmup_iterations=1")),
    "greedy-overlong": (
        "grpo.toml",
        (
            "algorithm.advantage=remax",
            "reward.overlong_buffer_tokens=16",
            "reward.overlong_penalty=0.5",
            "reward.clip=[0.1, 0.9]",
        ),
    ),
    "moving-reference": ("grpo.toml", ("reference.ema_decay=0.5", "algorithm.kl_in_reward=0.05")),
}
NOT_REPEATED = {"dynamic-sampling": {"rollout/rounds", "rollout/uninformative_fraction"}}
COMMON = (
    "rollout.prompts_per_step=8",
    "rollout.samples_per_prompt=4",
    "algorithm.mini_batch_samples=16",
    "data.validation=[]",
    "actor.warmup_steps=0",
    "actor.lr=0.003",
    "trainer.validate_every=0",
    "trainer.checkpoint_every=2",
    "trainer.keep_checkpoints=9",
)


@pytest.fixture(scope="module")
def train(quickstart: Path) -> Callable[..., Path]:
    """Function: the folder of a run of 5 steps with the settings of a case; made once."""
    done: dict[str, Path] = {}

    def run(case: str) -> Path:
        if case not in done:
            file, settings = CASES[case]
            reward = f"reward.functions=['{quickstart / 'graded.py'}:score']"
            assignments = (*COMMON, *settings, reward, "trainer.steps=5", f"run.name=replay-{case}")
            run_ppo(load_config("ppo", quickstart / file, assignments=assignments))
            done[case] = quickstart / "runs" / f"replay-{case}"
        return done[case]

    return run


@pytest.fixture
def copy(train: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Function: a copy of a case's run, to be spoilt."""
    return lambda case: Path(shutil.copytree(train(case), tmp_path / "run"))


def content(folder: Path) -> Mapping[str, str]:
    """Digest of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("case", CASES)
def test_every_number_is_equal_to_the_bit_and_the_run_stays_as_it_was(train, case):
    run = train(case)
    before = content(run)
    for step, start in ((1, 0), (4, 2), (5, 4)):
        comparison = run_replay(run, step)
        assert comparison.unexpected == () and comparison.drifted is None
        assert (comparison.start, comparison.step) == (start, step)
        assert {"old_log_probs", "advantages", "loss_mask"} <= {pair.name for pair in comparison.tokens}
        names = {pair.name for pair in comparison.numbers}
        assert {"reward/mean", "actor/loss"} <= names or step == 1  # a critic that warms up leaves the actor alone
        assert len(names) > 30
        of_rewards = {name for name in comparison.left_out if name.startswith("reward/")}
        assert set(comparison.left_out) - of_rewards == NOT_REPEATED.get(case, set())
    assert content(run) == before


def test_without_checkpoints_it_starts_from_the_starting_model(copy):
    run = copy("critic-kl-running")
    shutil.rmtree(run / "checkpoints")
    comparison = run_replay(run, 3)
    assert comparison.equal and comparison.start == 0


def test_a_damaged_checkpoint_is_passed_over(copy):
    run = copy("lora")
    for file in (run / "checkpoints" / "step_000004" / "state" / "actor").rglob("*.safetensors"):
        file.write_bytes(b"")
    comparison = run_replay(run, 5)
    assert comparison.equal and comparison.start == 2


def test_another_setting_changes_only_what_depends_on_it(train):
    comparison = run_replay(
        train("critic-kl-running"), 4, assignments=["algorithm.policy_loss_options.clip_low=0.0001", "actor.lr=0.1"]
    )
    assert comparison.equal and comparison.start == 2  # the step between is repeated with the run's own settings
    assert comparison.changed == ("algorithm.policy_loss_options", "actor.lr")
    differing = {pair.name for pair in comparison.numbers if not pair.equal}
    assert {"actor/lr", "actor/clip_fraction_low"} <= differing
    assert all(name.startswith("actor/") for name in differing)
    assert not any(pair.differing for pair in comparison.tokens)


def test_another_estimator_changes_the_advantages(train):
    comparison = run_replay(train("dynamic-sampling"), 3, assignments=["algorithm.advantage=rloo"])
    assert comparison.equal
    differing = {pair.name for pair in comparison.tokens if pair.differing}
    assert differing == {"advantages"}


def test_another_kl_coefficient_is_the_one_that_is_used(train):
    comparison = run_replay(train("critic-kl-running"), 4, assignments=["algorithm.kl_in_reward=0.5"])
    found = {pair.name: pair.recomputed for pair in comparison.numbers}
    assert found["reward/kl_coefficient"] == 0.5


def test_what_was_recorded_differently_is_found(copy):
    run = copy("lora")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if line["event"] == "step" and line["step"] == 2:
            line["metrics"]["actor/loss"] += 1e-9
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run_replay(run, 2).unexpected == ("actor/loss",)


def test_missing_rollouts_and_checkpoints_are_named(copy):
    run = copy("lora")
    (run / "rollouts" / "step_000003.parquet").unlink()
    with pytest.raises(DataError, match="no rollouts of step 3; it has those of steps 1-2, 4-5"):
        run_replay(run, 3)
    with pytest.raises(DataError, match="no rollouts of step 6"):
        run_replay(run, 6)
    with pytest.raises(CheckpointError, match=r"steps 3 are missing.*trainer\.checkpoint_every"):
        run_replay(run, 4)
    assert run_replay(run, 5).equal


def test_an_older_file_is_enough_where_nothing_of_the_new_is_needed(copy):
    run = copy("critic-kl-running")
    path = run / "rollouts" / "step_000001.parquet"
    new = ["conversation_facts", "turn_scores", "greedy_score", "greedy_tokens", "greedy_error"]
    parquet.write_table(parquet.read_table(path).drop_columns(new), path)
    assert run_replay(run, 1).equal


def test_an_older_file_without_greedy_answers_is_refused(copy):
    run = copy("greedy-overlong")
    path = run / "rollouts" / "step_000001.parquet"
    parquet.write_table(parquet.read_table(path).drop_columns(["greedy_score", "greedy_tokens", "greedy_error"]), path)
    with pytest.raises(DataError, match="compares with greedy answers"):
        run_replay(run, 1)


@pytest.mark.parametrize("setting", ["rollout.temperature=0.5", "data.limit=3", "reward.on_error=zero"])
def test_what_the_answers_depend_on_cannot_be_changed(train, setting):
    with pytest.raises(ConfigError, match=r"--set .* is recorded"):
        run_replay(train("lora"), 1, assignments=[setting])


def test_the_command_prints_a_table_and_json(train, quickstart, rlkit_command):
    run = train("lora").relative_to(quickstart)
    text = rlkit_command(quickstart, "replay", str(run), "--step", "2").stdout
    assert "repeated from the starting model" in text and "equal to the bit" in text
    found = json.loads(rlkit_command(quickstart, "replay", str(run), "--step", "2", "--json").stdout)
    assert found["equal"] and found["step"] == 2 and found["numbers"][0]["equal"]
    refused = rlkit_command(quickstart, "replay", "runs/sft", "--step", "1", code=2)
    assert refused.stderr.startswith("error: runs/sft holds a run of kind sft")
