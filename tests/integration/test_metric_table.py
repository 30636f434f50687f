"""Real runs, small ones: the table of metrics describes all that they report, and nothing that none of them does."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from rlkit.config.load import load_config
from rlkit.pipelines.generate import run_generate
from rlkit.pipelines.ppo import run_ppo
from rlkit.pipelines.sft import run_sft
from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import hookimpl
from rlkit.testing.tiny_model import tiny_model
from rlkit.tracking.metric_entry import expression_of
from rlkit.tracking.metric_table import METRICS, ON_A_GPU, WITH_FAILURES, WITH_REPLICAS, find_metric

pytestmark = pytest.mark.slow

Reported = Mapping[str, set[str]]

REWARD = """\
from rlkit.protocols import EnvironmentStep

def score(response):
    return {'score': float(len(set(response)) % 2), 'letters': float(len(response))}

class Echo:
    def reset(self, prompt):
        return prompt.messages

    def step(self, message):
        return EnvironmentStep("again", 0.5)
"""
COMMON = (
    "trainer.steps=2",
    "rollout.prompts_per_step=4",
    "rollout.samples_per_prompt=4",
    "trainer.save_rollouts=false",
)
RUNS = {
    "gae": (
        *("algorithm.kl_in_reward=0.1", "algorithm.kl_loss=0.1", "algorithm.epochs=2", "reference.refresh_every=1"),
        *("validation.samples_per_prompt=2", "validation.temperature=1.0"),
    ),
    "grpo": (
        *("algorithm.normalise_advantages=batch", "algorithm.advantage_clip=1.0", "algorithm.mask_truncated=true"),
        *(
            "rollout_correction.importance_weights=token",
            "algorithm.policy_loss=clip_cov",
            "algorithm.sampling_rounds=2",
        ),
    ),
    "remax": (
        *("reward.clip=[0.0,0.5]", "reward.normalise=running"),
        *("reward.overlong_buffer_tokens=2", "reward.overlong_penalty=0.5"),
    ),
    "rloo": (
        *("rollout.environment={folder}/reward.py:Echo", "rollout.max_response_tokens=20"),
        *("rollout.max_turn_tokens=4", "rollout.max_turns=2"),
    ),
}


class Recorder:
    """Every name that a run reports."""

    def __init__(self) -> None:
        self.names: dict[str, set[str]] = defaultdict(set)

    @hookimpl
    def step_finished(self, run, metrics):
        self.names[run.kind] |= set(metrics)

    @hookimpl
    def validation_finished(self, run, metrics):
        self.names[run.kind] |= set(metrics)


def write_project(folder: Path) -> Path:
    rows = [{"question": f"{n}+1=", "answer": str(n + 1), "data_source": ("a", "b")[n % 2]} for n in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "reward.py").write_text(REWARD)
    for kind, keys in {
        "ppo": "[data]\ntrain = ['rows.jsonl']\nvalidation = ['rows.jsonl']\nmax_prompt_tokens = 32\n[rollout]\nmax_response_tokens = 6\n"
        "[reward]\nfunctions = ['reward.py:score', 'exact_match']\n",
        "sft": "[data]\ntrain = ['rows.jsonl']\nvalidation = ['rows.jsonl']\nmax_length = 64\n[sft]\nbatch_size = 4\n",
        "generate": "[generation]\nprompts = ['rows.jsonl']\nmax_response_tokens = 4\nmax_prompt_tokens = 32\n",
    }.items():
        (folder / f"{kind}.toml").write_text(f"[model]\npath = '{tiny_model()}'\n{keys}")
    return folder


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    folder = write_project(tmp_path_factory.mktemp("metrics"))
    recorder = Recorder()
    original = HookRelay.for_run

    def with_recorder(*arguments, **options):
        relay = original(*arguments, **options)
        relay.add("recorder", recorder)
        return relay

    def config(kind, *assignments):
        return load_config(
            kind, folder / f"{kind}.toml", assignments=[f"run.output={folder}", *assignments], environ={}
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HookRelay, "for_run", with_recorder)
        run_sft(config("sft"))
        run_generate(config("generate", f"generation.output={folder / 'answers.jsonl'}"))
        talk = (
            *("generation.max_response_tokens=20", "generation.max_turn_tokens=4", "generation.max_turns=2"),
            *(f"generation.environment={folder}/reward.py:Echo", f"generation.output={folder / 'talks.jsonl'}"),
        )
        run_generate(config("generate", *talk))
        for advantage, keys in RUNS.items():
            placed = [key.replace("{folder}", str(folder)) for key in keys]
            run_ppo(config("ppo", *COMMON, f"algorithm.advantage={advantage}", f"run.name={advantage}", *placed))
    return recorder.names


@pytest.mark.parametrize("kind", ["ppo", "sft", "generate"])
def test_every_reported_metric_is_in_the_table_for_its_kind_of_run(reported: Reported, kind: str) -> None:
    missing = [
        name for name in sorted(reported[kind]) if not any(kind in m.runs and m.describes(name) for m in METRICS)
    ]
    assert reported[kind]
    assert not missing, f"add to rlkit/tracking/metric_table.py, and run `make docs`: {missing}"


@pytest.mark.parametrize("entry", METRICS, ids=lambda entry: f"{entry.name}-{'-'.join(entry.runs)}")
def test_every_metric_of_the_table_is_reported_by_the_runs_that_it_names(reported: Reported, entry) -> None:
    # test_replicas.py and test_broken_rewards.py run some of these.
    if entry.when in (ON_A_GPU, WITH_REPLICAS, WITH_FAILURES):
        assert all(find_metric(pattern) is entry for pattern in entry.patterns)
        return
    for kind in entry.runs:
        for pattern in entry.patterns:
            expression = re.compile(expression_of(pattern))
            assert any(map(expression.fullmatch, reported[kind])), f"no {kind} run reports {pattern}"
