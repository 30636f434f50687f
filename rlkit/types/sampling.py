"""How answers are drawn from a model."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class SamplingParams:
    """One request's sampling settings.

    Log-probs are always those of the distribution that was sampled from before top-k, top-p and min-p:
    `log_softmax(logits / temperature)`, which is what the trainer recomputes. Greedy decoding
    (`temperature == 0`) reports them at temperature 1.
    """

    max_tokens: int
    temperature: float = 1.0  # 0 means greedy
    top_p: float = 1.0  # nucleus mass kept, in (0, 1]
    top_k: int = 0  # 0 keeps the whole vocabulary
    min_p: float = 0.0  # tokens below min_p x the top probability are dropped
    repetition_penalty: float = 1.0
    samples: int = 1  # answers a prompt
    seed: int = 0  # the same seed, prompts and weights give the same answers, however they are batched
    stop: tuple[str, ...] = ()  # strings that end an answer
    stop_token_ids: tuple[int, ...] = ()  # besides the tokenizer's end-of-sequence token

    def with_seed(self, seed: int) -> SamplingParams:
        return replace(self, seed=seed)
