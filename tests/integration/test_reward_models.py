"""Models that judge, in earnest: behind `rlkit serve`, as replicas on Ray, and as what PPO learns from."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rlkit.errors import RewardError
from rlkit.models.tokenizer_making import make_tokenizer
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import construct, load_plugin
from rlkit.types import Prompt, Reward, Sample

pytestmark = pytest.mark.slow

ALPHABET = "0123456789+=?# "
SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256,
}  # fmt: skip


def reward(name: str, **options: Any) -> Any:
    target, _ = construct(load_plugin(PluginKind.REWARD_FUNCTION, name), options, where=f"reward.options.{name}")
    return target


def sample(response: str, question: str = "7+5=?") -> Sample:
    return Sample(Prompt(0, messages=({"role": "user", "content": question},)), response)


def fit(model: Any, steps: int, loss: Callable[[random.Random], torch.Tensor]) -> None:
    """A few steps of AdamW on what `loss` draws."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    chance = random.Random(0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(chance).backward()
        optimizer.step()


@pytest.fixture(scope="module")
def likes_short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier, saved by transformers, whose number falls with the length of the answer: about -1 for ten characters."""
    from transformers import AutoModelForSequenceClassification, Qwen3Config

    folder = tmp_path_factory.mktemp("likes-short")
    tokenizer = make_tokenizer("char", alphabet=ALPHABET, context_length=256)
    config = Qwen3Config(vocab_size=len(tokenizer), num_labels=1, pad_token_id=tokenizer.pad_token_id, **SIZES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = AutoModelForSequenceClassification.from_config(config)

        def loss(chance: random.Random) -> torch.Tensor:
            answers = ["".join(chance.choices(ALPHABET, k=chance.randint(0, 30))) for _ in range(32)]
            chats = [[*sample(answer).messages] for answer in answers]
            inputs = tokenizer.apply_chat_template(chats, return_tensors="pt", padding=True, return_dict=True)
            target = torch.tensor([-len(answer) / 10 for answer in answers])
            return ((model(**inputs).logits[:, 0] - target) ** 2).mean()

        fit(model, 80, loss)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_replicas_on_ray_give_the_scores_of_one_model_and_a_killed_one_costs_nothing(likes_short: Path) -> None:
    chance = random.Random(1)
    samples = [sample("".join(chance.choices(ALPHABET, k=chance.randint(0, 40)))) for _ in range(60)]
    options = {"model": str(likes_short), "batch_tokens": 200}
    expected = reward("reward_model", **options)(samples)
    replicated = reward("reward_model", **options, replicas=2)
    try:
        assert replicated(samples) == expected
        pool = replicated._place._pool
        os.kill(pool.infos()[0].pid, signal.SIGKILL)
        assert replicated(samples) == expected
        assert replicated._place.num_restarts == 1
    finally:
        replicated.close()


def test_ppo_learns_what_a_reward_model_likes(quickstart: Path, likes_short: Path, rlkit_command: Any) -> None:
    settings = {
        "run.name": "likes-short",
        "reward.functions": "reward_model",
        "reward.options.reward_model.model": str(likes_short),
        "reward.options.reward_model.mean": "-1.0",
        "rollout.prompts_per_step": "16",
        "algorithm.mini_batch_samples": "32",
        "actor.lr": "2e-3",
        "actor.warmup_steps": "0",
        "trainer.steps": "10",
        "trainer.validate_every": "0",
    }
    rlkit_command(quickstart, "train", "ppo", "ppo.toml", *(f"--set={key}={value}" for key, value in settings.items()))
    entries = map(json.loads, (quickstart / "runs" / "likes-short" / "metrics.jsonl").read_text().splitlines())
    means = [entry["metrics"]["reward/mean"] for entry in entries if entry["event"] == "step"]
    assert len(means) == 10
    assert sum(means[-3:]) / 3 > sum(means[:2]) / 2 + 0.1


@pytest.fixture(scope="module")
def says_seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a language model `judge` that answers everything with `VERDICT: 7`."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("says-seven")
    tokenizer = make_tokenizer("byte", context_length=256)
    config = Qwen3Config(
        vocab_size=len(tokenizer), tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, **SIZES,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(config)

        def loss(chance: random.Random) -> torch.Tensor:
            asked = "".join(chance.choices("abcdef0123456789<>/ \n", k=chance.randint(40, 120)))
            said: Any = [{"role": "user", "content": asked}, {"role": "assistant", "content": "VERDICT: 7"}]
            ids = torch.tensor([tokenizer.encode(tokenizer.apply_chat_template(said, tokenize=False))])
            labels = torch.where(torch.arange(ids.shape[1]) < ids.shape[1] - 11, -100, ids)
            return model(input_ids=ids, labels=labels).loss

        fit(model, 60, loss)
    model.save_pretrained(folder / "judge")
    tokenizer.save_pretrained(folder / "judge")
    return folder


def test_a_judge_behind_rlkit_serve_gives_its_verdict(
    says_seven: Path, start_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the key, over the chat endpoint; and a reply that is cut is an error."""
    monkeypatch.setenv("JUDGE_KEY", "a-key-of-the-test")
    server = start_server(says_seven, "--model", "judge", "--set", "serve.api_key_env=JUDGE_KEY")

    def judge(**options: Any) -> Any:
        asked = {"model": "judge", "template": "{response}", "max_tokens": 20, "api_key_env": "JUDGE_KEY", **options}
        return reward("judge", url=f"{server.url}/v1", **asked)

    async def ask(*samples: Sample, **options: Any) -> list[Reward]:
        asked = judge(**options)
        try:
            rewards: list[Reward] = await asked(samples)
            return rewards
        finally:
            await asked.aclose()

    two = (sample("12"), sample("13"))
    assert asyncio.run(ask(*two)) == [Reward(2 / 3), Reward(2 / 3)]
    voted = asyncio.run(ask(*two, votes=3, temperature=0.01, range=[0, 7]))
    assert voted == [Reward(1.0, {"agreement": 1.0})] * 2
    cut = asyncio.run(ask(*two, max_tokens=9))
    assert ["was cut at max_tokens = 9" in str(one.error) for one in cut] == [True, True]
    with pytest.raises(RewardError, match=r"answered 400 Bad Request: .* beyond the model's context"):
        asyncio.run(ask(sample("12" * 200)))
