"""What goes wrong at the keyboard: one clear line, the right exit code, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlkit.testing.tiny_model import write_tiny_model

HEAVY = "{'torch', 'transformers', 'ray', 'vllm', 'datasets'}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, good data and bad data."""
    folder = tmp_path_factory.mktemp("errors")
    write_tiny_model(folder / "model")
    prompts = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(4) for b in range(4)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    (folder / "long.jsonl").write_text(json.dumps({"prompt": "1" * 100, "answer": "1"}) + "\n")
    (folder / "empty.jsonl").write_text("")
    (folder / "torn.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n{"prompt": \n')
    (folder / "wordless.jsonl").write_text('{"text": "1"}\n')
    (folder / "chats.jsonl").write_text(
        json.dumps({"messages": [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": "2"}]}) + "\n"
    )
    (folder / "rows.csv").write_text("prompt\n1\n")
    (folder / "pickled.pkl").write_bytes(b"\x80\x04")
    (folder / "empty-folder").mkdir()
    (folder / "broken.toml").write_text("[actor\n")
    (folder / "reward.py").write_text("def score(response): return 0\n")
    (folder / "raises.py").write_text("raise RuntimeError('no licence')\n")
    return folder


def run(folder: Path, *arguments: str, light: bool) -> tuple[int, list[str]]:
    """Exit code and lines of standard error; `light` says that nothing heavy may have been imported by then."""
    script = (
        "import sys\n"
        "from rlkit.cli.main import main\n"
        "code = 0\n"
        "try:\n    main()\n"
        "except SystemExit as error:\n    code = error.code or 0\n"
        f"heavy = {HEAVY} & set(sys.modules)\n"
        "sys.exit(99 if heavy and LIGHT else code)\n"
    ).replace("LIGHT", str(light))
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [line for line in done.stderr.splitlines() if line.startswith(("error:", "Error:"))]


PPO = (
    *("train", "ppo", "--model", "model", "--data", "prompts.jsonl", "--reward", "exact_match"),
    *("--set", "data.max_prompt_tokens=32", "--set", "rollout.max_response_tokens=8"),
)
SMALL = (*PPO, "--set", "rollout.prompts_per_step=4")
TOO_MANY = (*PPO, "--set", "rollout.prompts_per_step=17")

EMPTY = tuple("empty.jsonl" if part == "prompts.jsonl" else part for part in PPO)

AT_CONFIG_TIME = [
    ((*PPO, "--lr", "-1"), 2, "actor.lr = -1.0 (--lr): must be greater than 0"),
    ((*PPO, "--set", "actor.lr=fast"), 2, "actor.lr = 'fast' (--set): must be a valid number"),
    ((*PPO, "--set", "algorithm.mini_batch_samples=7"), 2, "does not divide the 256 samples of one step"),
    ((*PPO, "--set", "rollout.option.a=1"), 2, "did you mean rollout.options?"),
    ((*PPO, "--set", "rollout.options.max_batch_token=1"), 2, "did you mean rollout.options.max_batch_tokens?"),
    ((*PPO, "--set", "actor.options.a=1"), 2, "unknown key actor.options.a; keys here: reshard_after_forward"),
    ((*PPO, "--engine", "vlm"), 3, "rollout engine 'vlm' not found; installed: hf"),
    ((*PPO, "--reward", "exact_mach"), 3, "Did you mean 'exact_match'?"),
    ((*PPO, "--reward", "none.py:score"), 3, "file none.py does not exist"),
    ((*PPO, "--data", "none.jsonl"), 4, "data file none.jsonl not found"),
    ((*PPO, "--data", "promts.jsonl"), 4, "did you mean prompts.jsonl?"),
    ((*PPO, "--data", "rows.csv"), 4, "unknown ending '.csv'"),
    ((*PPO, "--data", "pickled.pkl"), 4, "pickled files can run code and are never opened"),
    ((*PPO, "--model", "empty-folder"), 4, "has no config.json"),
    ((*PPO, "--model", "./nowhere"), 4, "model folder './nowhere' does not exist"),
    ((*PPO, "--set", "run.required_plugins=['rlkit-hf>=99']"), 3, "rlkit-hf>=99 (installed: "),
    ((*PPO, "--set", "rollout.max_response_tokens=200"), 2, "exceed the model's context of 128 tokens"),
    (("generate", "--model", "model", "--data", "prompts.jsonl"), 2, "exceed the model's context of 128 tokens"),
    ((*TOO_MANY, "--dry-run"), 4, "rollout.prompts_per_step = 17, but data.train has 16 prompts"),
    ((*EMPTY, "--dry-run"), 4, "data.train has no rows: the data set is empty"),
    (("train", "ppo"), 2, "model.path is missing: give a model folder or Hub id with --model"),
    (("train", "ppo", "broken.toml"), 2, "project file broken.toml cannot be read"),
    (("train", "ppo", "none.toml"), 2, "project file none.toml does not exist"),
    (
        ("generate", "--model", "model", "--set", "generation.max_prompt_tokens=32", "--max-tokens", "8"),
        2,
        "generation.prompts is missing",
    ),
    (("eval",), 2, "evaluation.completions is missing"),
    (("eval", "a.toml", "b.toml"), 2, "2 project files are given"),
    (("trian",), 2, "unknown command 'trian'; did you mean 'train'?"),
    (("train", "pppo"), 2, "pppo"),
    (("config", "explain", "actor.lrr"), 2, "did you mean actor.lr?"),
    (("config", "show", "none.toml"), 2, "none.toml"),
    (("config", "schema", "pp"), 2, "kinds: sft, ppo, generate, serve, eval"),
    (("plugins", "show", "gsm9k"), 3, "Did you mean 'gsm8k'?"),
    (("plugins", "list", "--kind", "engine"), 2, "kinds: model_family, rollout_engine"),
    (("init", "x", "--template", "quickstrat"), 2, "Did you mean 'quickstart'?"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), AT_CONFIG_TIME, ids=lambda value: str(value)[:60])
def test_a_mistake_is_told_before_anything_heavy_loads(project, arguments, code, message):
    actual, lines = run(project, *arguments, light=True)
    assert actual == code, lines
    assert any(message in line for line in lines), lines
    if arguments != ("train", "ppo") and arguments[0] != "eval":
        assert len(lines) == 1, lines


LATER = [
    (
        (
            *("generate", "--model", "model", "--data", "long.jsonl", "--max-tokens", "8"),
            *("--set", "generation.max_prompt_tokens=32"),
        ),
        4,
        "raise generation.max_prompt_tokens to",
    ),
    (EMPTY, 4, "empty.jsonl: the data set is empty"),
    ((*SMALL, "--data", "torn.jsonl"), 4, "torn.jsonl"),
    ((*SMALL, "--data", "wordless.jsonl"), 4, "wordless.jsonl"),
    ((*SMALL, "--data", "long.jsonl"), 4, "data.max_prompt_tokens"),
    (TOO_MANY, 4, "rollout.prompts_per_step = 17, but data.train has 16 prompts"),
    ((*PPO, "--reward", "raises.py:score"), 3, "RuntimeError: no licence"),
    ((*PPO, "--reward", "reward.py:scores"), 3, "reward.py has no 'scores'"),
    (("sft", "--model", "model", "--data", "chats.jsonl", "--set", "data.max_length=4"), 4, "data.max_length"),
    (("sft", "--model", "model", "--data", "empty.jsonl"), 4, "the data set is empty"),
    (("eval", "prompts.jsonl"), 4, "prompts.jsonl, line 1 is not a row of completions"),
    (("models", "create", "model", "--family", "qwen3"), 4, "exists and is not empty"),
    (("models", "create", "new", "--family", "qwem3"), 3, "Did you mean 'qwen3'?"),
    (("models", "inspect", "empty-folder"), 4, "has no config.json"),
    (("report", "empty-folder"), 4, "holds no run"),
    (("init", "empty-folder/../model"), 2, "exists and is not empty"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "code", "message"), LATER, ids=lambda value: str(value)[:60])
def test_a_mistake_that_shows_later_is_one_clear_line_too(project, arguments, code, message):
    actual, lines = run(project, *arguments, light=False)
    assert actual == code, lines
    assert len(lines) == 1, lines
    assert message in lines[0]


def test_debug_shows_the_traceback(project):
    done = subprocess.run(
        [sys.executable, "-m", "rlkit", "--debug", "config", "explain", "nothing"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" in done.stderr
    assert "ConfigError" in done.stderr
