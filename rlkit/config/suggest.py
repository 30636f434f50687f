"""The key that somebody meant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

MAX_DISTANCE_SHARE = 0.5
"""A suggestion that needs more edits than half of the typed word is a guess, not a help."""

MOST_MEANT = 3
"""More keys than that are no answer."""

ELSEWHERE = {
    "beta": ("algorithm.kl_loss", "algorithm.kl_in_reward"),
    "bf16": ("model.dtype",),
    "clip_ratio": ("algorithm.policy_loss_options",),
    "cliprange": ("algorithm.policy_loss_options",),
    "epsilon": ("algorithm.policy_loss_options",),
    "gpus": ("placement.workers",),
    "kl_coef": ("algorithm.kl_loss", "algorithm.kl_in_reward"),
    "kl_loss_coef": ("algorithm.kl_loss",),
    "learning_rate": ("lr",),
    "max_completion_length": ("max_response_tokens",),
    "max_new_tokens": ("max_response_tokens",),
    "max_response_length": ("max_response_tokens",),
    "max_tokens": ("max_response_tokens", "data.max_length"),
    "max_prompt_length": ("max_prompt_tokens",),
    "max_steps": ("trainer.steps", "sft.steps"),
    "mini_batch_size": ("algorithm.mini_batch_samples",),
    "n": ("samples_per_prompt",),
    "num_epochs": ("epochs",),
    "num_generations": ("samples_per_prompt",),
    "num_train_epochs": ("epochs",),
    "per_device_train_batch_size": ("micro_batch_tokens",),
    "ppo_epochs": ("algorithm.epochs",),
    "ppo_mini_batch_size": ("algorithm.mini_batch_samples",),
    "rollouts": ("samples_per_prompt",),
    "train_batch_size": ("rollout.prompts_per_step", "sft.batch_size"),
    "batch_size": ("rollout.prompts_per_step", "sft.batch_size", "generation.batch_prompts"),
    "total_epochs": ("epochs",),
}
"""What verl, TRL and transformers call a key: the key, or the end of several."""


def edit_distance(left: str, right: str) -> int:
    """Deletions, insertions, substitutions and swaps of neighbours that turn one word into the other (Damerau 1964)."""
    before: list[int] = []
    previous = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        current = [i]
        for j, b in enumerate(right, start=1):
            cost = min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        before, previous = previous, current
    return previous[-1]


def nearest_word(name: str, candidates: Sequence[str]) -> str | None:
    """The candidate that takes the fewest edits, if that is at most half of the typed word."""
    lowered = name.lower().replace("-", "_")
    limit = max(1, int(len(name) * MAX_DISTANCE_SHARE))

    def rank(candidate: str) -> tuple[int, float]:
        return edit_distance(lowered, candidate), -SequenceMatcher(None, lowered, candidate).ratio()

    near = [candidate for candidate in candidates if edit_distance(lowered, candidate) <= limit]
    return min(near, key=rank) if near else None


def keys_called(name: str, keys: Sequence[str], *, section: str = "") -> list[str]:
    """Dotted keys that end with `name`, or with what is called so elsewhere: those of `section` if there are any."""
    plain = {word.replace("_", ""): ends for word, ends in ELSEWHERE.items()}
    ends = (name, *plain.get(re.sub(r"[^a-z0-9]", "", name.lower()), ()))
    return _in_section([key for key in keys if any(f".{key}".endswith(f".{end}") for end in ends)], section)


def keys_about(name: str, meanings: Mapping[str, str], *, section: str = "") -> list[str]:
    """Those of `meanings` (dotted key -> what it does) that have every word of `name` in the key or the text."""
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    return _in_section([key for key, text in meanings.items() if _speaks_of(words, f"{key} {text}")], section)


def keys_near(name: str, keys: Sequence[str]) -> list[str]:
    """Dotted keys whose last part is the one nearest to `name`."""
    nearest = nearest_word(name, [key.rpartition(".")[2] for key in keys])
    return [] if nearest is None else _in_section([key for key in keys if key.rpartition(".")[2] == nearest], "")


def _in_section(keys: list[str], section: str) -> list[str]:
    inside = [key for key in keys if key.startswith(f"{section}.")] if section else []
    meant = inside or keys
    return meant if len(meant) <= MOST_MEANT else []


def _speaks_of(words: Sequence[str], text: str) -> bool:
    spoken = re.split(r"[^a-z0-9]+", text.lower())
    return bool(words) and all(len(word) > 1 and any(other.startswith(word) for other in spoken) for word in words)
