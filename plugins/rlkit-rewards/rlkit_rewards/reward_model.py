"""A reward model: the number that a sequence classifier gives a conversation.

samples -> its own chat template and tokenizer -> batches -> in this process, or replicas on Ray -> label, scale, squash
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlkit.errors import ConfigError, MissingRequirementError, RewardError
from rlkit.models.causal import load_config
from rlkit.models.locate import check_model_path, locate_model
from rlkit.models.score_model import ScoreModel, TokenRow, load_score_model, score_batches
from rlkit.models.tokenizer import load_tokenizer
from rlkit.types import Reward, Sample
from rlkit_rewards.remote_options import RewardModelOptions
from rlkit_rewards.reward_model_text import ConversationEncoder, longest_conversation

if TYPE_CHECKING:
    from rlkit.cluster.replicated_scores import ReplicatedScores

SECTION = "reward.options.reward_model"


class RewardModel:
    """The model is found, and its tokenizer read, when this is made; weights are loaded, and replicas started, by the first
    call, which has to come from the main thread when there are replicas.
    """

    runs_in: Literal["trainer"] = "trainer"
    judges_apart = False
    """The numbers do not depend on the other answers, but many at a time are computed faster."""

    def __init__(self, options: RewardModelOptions) -> None:
        """Raises `ModelError` for what is no classifier, `ConfigError` for a label that it does not have."""
        if options.replicas:
            _check_ray()
        self._options = options
        check_model_path(options.model)
        self._folder = locate_model(options.model, trust_remote_code=options.trust_remote_code)
        config = load_config(self._folder, trust_remote_code=options.trust_remote_code)
        self._label = label_index(config, options.label)
        tokenizer = load_tokenizer(
            self._folder, chat_template=options.chat_template, trust_remote_code=options.trust_remote_code
        )
        limit = longest_conversation(config, tokenizer, options.max_tokens)
        self._encoder = ConversationEncoder(tokenizer, options, limit)
        self._encoder.check()
        self._place: LocalScores | ReplicatedScores | None = None

    def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        """One verdict for each conversation; one that cannot be read has an error."""
        encoded = self._encoder.encode(samples)
        rows = [row for row in encoded if isinstance(row, TokenRow)]
        logits = iter(self._logits(rows))
        return [
            Reward(0.0, error=str(row)) if isinstance(row, RewardError) else self._reward(next(logits))
            for row in encoded
        ]

    def close(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            place.close()

    def _logits(self, rows: Sequence[TokenRow]) -> list[list[float]]:
        if not rows:
            return []
        if self._place is None:
            self._place = self._replicas() if self._options.replicas else self._local()
        batches = score_batches(rows, self._options.batch_tokens)
        computed = self._place.logits([[rows[row] for row in batch] for batch in batches])
        by_row = {
            row: numbers
            for batch, part in zip(batches, computed, strict=True)
            for row, numbers in zip(batch, part, strict=True)
        }
        return [by_row[row] for row in range(len(rows))]

    def _reward(self, logits: Sequence[float]) -> Reward:
        options, logit = self._options, logits[self._label]
        if not all(map(math.isfinite, logits)):
            return Reward(0.0, error=f"reward_model: the model's number is {logit}")
        if options.squash == "softmax":
            score = math.exp(logit - max(logits)) / math.fsum(math.exp(other - max(logits)) for other in logits)
        else:
            score = (logit - options.mean) / options.std
            if options.squash == "sigmoid":
                score = sigmoid(score)
        is_changed = options.squash != "none" or options.mean != 0.0 or options.std != 1.0
        return Reward(score, {"logit": logit} if is_changed else {})

    def _local(self) -> LocalScores:
        options = self._options
        model = load_score_model(
            self._folder,
            dtype=options.dtype,
            device=_device(options.device),
            trust_remote_code=options.trust_remote_code,
        )
        return LocalScores(model, is_offloaded=options.offload)

    def _replicas(self) -> ReplicatedScores:
        from rlkit.cluster.replicated_scores import start_score_replicas
        from rlkit.cluster.score_replica import ScoreDescription
        from rlkit.cluster.versions import versions_of

        options = self._options
        return start_score_replicas(
            ScoreDescription(
                folder=str(self._folder.resolve()),
                hub_id="" if Path(options.model).expanduser().exists() else options.model,
                dtype=options.dtype,
                device=options.device,
                trust_remote_code=options.trust_remote_code,
                versions=versions_of(()),
            ),
            count=options.replicas,
            gpus=options.gpus_per_replica,
            max_restarts=options.max_restarts,
            start_timeout_s=options.start_timeout_s,
            silence_timeout_s=options.silence_timeout_s,
            section=SECTION,
        )


@dataclass
class LocalScores:
    """The model in this process; it leaves its device between calls when it is to be offloaded."""

    model: ScoreModel
    is_offloaded: bool

    def __post_init__(self) -> None:
        if self.is_offloaded:
            self.model.offload()

    def logits(self, batches: Sequence[Sequence[TokenRow]]) -> list[list[list[float]]]:
        if not self.is_offloaded:
            return [self.model.logits(batch) for batch in batches]
        self.model.onload()
        try:
            return [self.model.logits(batch) for batch in batches]
        finally:
            self.model.offload()

    def close(self) -> None:
        self.model.offload()


def label_index(config: Any, label: str) -> int:
    """Position of a label, given by name or position; of a model with one label 0. Raises `ConfigError` for any other."""
    names = {str(name): int(position) for position, name in config.id2label.items()}
    listed = ", ".join(sorted(names, key=lambda name: names[name]))
    if not label:
        if len(names) == 1:
            return 0
        raise ConfigError(
            f"{SECTION}: the model has the labels {listed}; set label to the one whose number is the score"
        )
    if label in names:
        return names[label]
    if label.isdecimal() and int(label) < len(names):
        return int(label)
    raise ConfigError(f"{SECTION}.label = {label!r}: the model has the labels {listed}")


def sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)), for numbers of any size."""
    small = math.exp(-abs(value))
    return (1.0 if value >= 0 else small) / (1.0 + small)


def _device(choice: Literal["auto", "cpu", "cuda"]) -> str:
    import torch

    if choice == "cpu" or (choice == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise ConfigError(f"{SECTION}.device = cuda, but torch finds no GPU here; set it to cpu or auto")
    return f"cuda:{torch.cuda.current_device()}"


def _check_ray() -> None:
    import importlib.util

    if importlib.util.find_spec("ray") is None:
        raise MissingRequirementError("replicas of a reward model need Ray: pip install 'rlkit-llm[ray]'")
