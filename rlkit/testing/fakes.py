"""Small stand-ins for engines and models, so that a loop can be tested without any network.

The policy is one number: the log-odds of answering with the right token instead of the wrong one. That is enough for
a whole PPO loop to learn, and little enough to check by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rlkit.algos.aggregation import Denominators
from rlkit.protocols.actor import LogProbs
from rlkit.protocols.saving import FinishedSave
from rlkit.rewards.judging import JudgingReport
from rlkit.types import Experience, Prompt, PromptBatch, Ragged, Reward, Rollouts, Sample, SamplingParams

if TYPE_CHECKING:
    from rlkit.algos.objective import PolicyObjective, ValueObjective

RIGHT, WRONG, END = 1, 0, 2
"""Token ids: what the reward likes, what it does not, and the end of every answer."""
WEIGHT_NAME = "log_odds"


def fake_prompts(count: int) -> PromptBatch:
    """`count` different prompts of two tokens each."""
    prompts = tuple(Prompt(row_id=row, text=f"question {row}", reference="right") for row in range(count))
    return PromptBatch(prompts, tuple((3, 4 + row) for row in range(count)))


class FakeTokenizer:
    """Two words and an end token."""

    eos_token_id: int | None = END
    pad_token_id: int | None = END
    chat_template: Any = None
    words = ("wrong", "right")

    def __len__(self) -> int:
        return 64

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [self.words.index(word) for word in text.split()]

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return " ".join(self.words[token] for token in token_ids if token < len(self.words))

    def batch_decode(self, sequences: Sequence[Sequence[int]], *, skip_special_tokens: bool = False) -> list[str]:
        return [self.decode(sequence) for sequence in sequences]

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """The messages' contents one after another: there are no other words to write roles with."""
        text = " ".join(message["content"] for message in conversation)
        return self.encode(text) if options.get("tokenize", True) else text


@dataclass
class FakeEngine:
    """Answers every prompt with one sampled word and the end token; keeps a list of what was asked of it."""

    log_odds: float = 0.0
    version: int = 0
    calls: list[str] = field(default_factory=list)

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        self.calls.append("generate")
        rows = [row for row in range(len(prompts)) for _ in range(sampling.samples)]
        generator = torch.Generator().manual_seed(0 if sampling.seed is None else sampling.seed)
        draws = torch.rand(len(rows), generator=generator).tolist()
        likely = 1 / (1 + torch.tensor(-self.log_odds / max(sampling.temperature, 1e-6)).exp().item())
        right = [likely > 0.5 if sampling.temperature == 0 else draw < likely for draw in draws]
        responses = Ragged.from_rows([[RIGHT if good else WRONG, END] for good in right], dtype=torch.int64)
        return Rollouts(
            prompt_ids=Ragged.from_rows([list(prompts.token_ids[row]) for row in rows], dtype=torch.int64),
            response_ids=responses,
            response_mask=responses.with_values(torch.ones(responses.num_tokens, dtype=torch.bool)),
            rollout_log_probs=responses.with_values(log_probs_of(torch.tensor(self.log_odds), responses)),
            group_ids=torch.tensor(rows),
            finish_reasons=tuple("stop" for _ in rows),
            policy_version=self.version,
            prompts=tuple(prompts.prompts[row] for row in rows),
        )

    def resume(self, parts: Iterable[str]) -> None:
        self.calls.append("resume")

    def release(self, parts: Iterable[str]) -> None:
        self.calls.append("release")

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        self.calls.append("update_weights")
        self.log_odds = float(dict(named_tensors)[WEIGHT_NAME])
        self.version = version

    def close(self) -> None:
        self.calls.append("close")


class _FakeModel:
    """One parameter and plain gradient descent."""

    def __init__(self, lr: float, value: float) -> None:
        self.parameter = torch.tensor(value, requires_grad=True)
        self.lr = lr
        self.updates = 0

    def step(self) -> float:
        gradient = self.parameter.grad
        assert gradient is not None
        norm = float(gradient.abs())
        if torch.isfinite(gradient):
            with torch.no_grad():
                self.parameter -= self.lr * gradient
        self.parameter.grad = None
        self.updates += 1
        return norm

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        yield WEIGHT_NAME, self.parameter.detach().clone()

    def save(self, folder: Path) -> None:
        (folder / "state.json").write_text(json.dumps([self.parameter.item(), self.updates]))

    def begin_save(self, folder: Path) -> FinishedSave:
        self.save(folder)
        return FinishedSave()

    def load(self, folder: Path) -> None:
        value, self.updates = json.loads((folder / "state.json").read_text())
        with torch.no_grad():
            self.parameter.fill_(value)

    def onload(self) -> None:
        return

    def offload(self) -> None:
        return


class FakeActor(_FakeModel):
    """The one-number policy in training, and without updates a reference."""

    def __init__(self, lr: float = 1.0, log_odds: float = 0.0) -> None:
        super().__init__(lr, log_odds)
        self.batch_sizes: list[int] = []

    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        responses = rollouts.response_ids
        log_odds = self.parameter.detach() / temperature
        values = log_probs_of(log_odds, responses)
        squares = responses.with_values(_probability_squares(log_odds, responses)) if probability_squares else None
        entropy = responses.with_values(torch.full_like(values, 0.5))
        return LogProbs(responses.with_values(values), entropy, squares)

    def update_policy(
        self, experience: Experience, objective: PolicyObjective, *, temperature: float
    ) -> Mapping[str, float]:
        self.batch_sizes.append(len(experience))
        rollouts = experience.rollouts
        experience = objective.prepare(
            experience, lambda: self.compute_log_probs(rollouts, temperature=temperature).log_probs
        )
        responses = rollouts.response_ids
        log_probs = responses.with_values(log_probs_of(self.parameter / temperature, responses))
        entropy = responses.with_values(torch.zeros(responses.num_tokens))
        denominators = Denominators.of(experience.loss_mask.padded(False))
        share = objective(log_probs.padded(0.0), entropy.padded(0.0), experience, denominators)
        share.loss.backward()  # type: ignore[no-untyped-call]
        metrics = {name: float(value) for name, value in share.metrics.items()}
        return {**metrics, "actor/grad_norm": self.step()}

    def base_policy(self) -> None:
        return

    def save_adapter(self, folder: Path) -> None:
        raise ValueError("one number needs no adapter")


class FakeMovingReference(FakeActor):
    """The one-number policy that takes over weights instead of learning."""

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], *, decay: float = 0.0) -> None:
        with torch.no_grad():
            self.parameter.lerp_(dict(named_tensors)[WEIGHT_NAME], 1 - decay)


class FakeCritic(_FakeModel):
    """Predicts the same value everywhere."""

    def __init__(self, lr: float = 0.5, value: float = 0.0) -> None:
        super().__init__(lr, value)

    def compute_values(self, rollouts: Rollouts) -> Ragged:
        responses = rollouts.response_ids
        return responses.with_values(self.parameter.detach().expand(responses.num_tokens).clone())

    def update_values(self, experience: Experience, objective: ValueObjective) -> Mapping[str, float]:
        responses = experience.rollouts.response_ids
        values = responses.with_values(self.parameter.expand(responses.num_tokens))
        share = objective(values.padded(0.0), experience, Denominators.of(experience.loss_mask.padded(False)))
        share.loss.backward()  # type: ignore[no-untyped-call]
        return {**{name: float(value) for name, value in share.metrics.items()}, "critic/grad_norm": self.step()}


@dataclass(frozen=True)
class FakeJudging:
    """Verdicts that are there already."""

    rewards: list[Reward]

    def result(self) -> list[Reward]:
        return self.rewards

    def report(self) -> JudgingReport:
        errors = sum(reward.error is not None for reward in self.rewards)
        return JudgingReport(len(self.rewards), 0.0, {"exception": errors} if errors else {}, 0.0, 0, 0)


class FakeScorer:
    """1 for the word `right`, else 0."""

    def begin(self, samples: Sequence[Sample]) -> FakeJudging:
        return FakeJudging(self.score(samples))

    def score(self, samples: Sequence[Sample]) -> list[Reward]:
        scores = [float(sample.response == sample.prompt.reference) for sample in samples]
        return [Reward(score, {"word": score}) for score in scores]

    def extract_answers(self, samples: Sequence[Sample]) -> list[str | None] | None:
        return [sample.response or None for sample in samples]


def log_probs_of(log_odds: Tensor, responses: Ragged) -> Tensor:
    """Log-probs [N] of the response tokens: the word by the log-odds, the end token for certain."""
    right = torch.nn.functional.logsigmoid(log_odds)
    wrong = torch.nn.functional.logsigmoid(-log_odds)
    tokens = responses.values
    return torch.where(tokens == RIGHT, right, torch.where(tokens == WRONG, wrong, torch.zeros(())))


def _probability_squares(log_odds: Tensor, responses: Ragged) -> Tensor:
    """[N] sum of squared probabilities: of the two words, and 1 for the end token, which is certain."""
    right = torch.sigmoid(log_odds)
    return torch.where(responses.values == END, torch.ones(()), right.square() + (1 - right).square())
