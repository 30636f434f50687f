"""A model as lm-evaluation-harness wants it: likelihoods from the model itself, answers from a rollout engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import has_bos_prefix, normalize_gen_kwargs, postprocess_generated_text

from rlkit.errors import ConfigError
from rlkit.evaluation.harness.likelihood import Continuation, Likelihood, likelihoods
from rlkit.protocols import RolloutEngine
from rlkit.types import Prompt, PromptBatch, SamplingParams

DEFAULT_ANSWER_TOKENS = 256
"""Longest answer where a task does not say, as in the harness."""
ANSWERS_AT_ONCE = 256
KNOWN_SETTINGS = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k", "min_p"}
"""Of a task's generation settings, those that a rollout engine has."""
NOT_SETTINGS = {"stream", "stream_options", "num_beams", "use_cache"}
"""Those that change nothing here, `num_beams` as long as it is 1."""

Encoded = tuple[tuple[str, str] | None, list[int], list[int]]


class EngineLM(TemplateLM):  # type: ignore[misc]
    """The harness's interface over rlkit's parts; each is loaded when the first request needs it.

    load_model: a causal language model of transformers, for likelihoods; load_engine: for answers.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        name: str,
        context_length: int,
        device: str,
        seed: int,
        load_model: Callable[[], Any],
        load_engine: Callable[[], RolloutEngine],
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self._name = name
        self._context_length = context_length
        self._device_name = device
        self._seed = seed
        self._load_model = load_model
        self._load_engine = load_engine

    @cached_property
    def causal_model(self) -> Any:
        return self._load_model()

    @cached_property
    def engine(self) -> RolloutEngine:
        return self._load_engine()

    def close(self) -> None:
        if "engine" in self.__dict__:
            self.engine.close()

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that nothing stands before."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def max_length(self) -> int:
        return self._context_length

    @property
    def max_gen_toks(self) -> int:
        return DEFAULT_ANSWER_TOKENS

    @property
    def tokenizer_name(self) -> str:
        return self._name.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """A text that begins with the tokenizer's first special token, as after a chat template, gets no second one."""
        if add_special_tokens is None:
            starts = has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id))
            ids = self.tokenizer.encode(string, add_special_tokens=False) if starts else self.tokenizer.encode(string)
        else:
            ids = self.tokenizer.encode(string, add_special_tokens=add_special_tokens)
        return [int(token) for token in ids]

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        text = self.tokenizer.apply_chat_template(
            list(chat_history),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return str(text)

    def _loglikelihood_tokens(
        self, requests: Sequence[Encoded], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        def keep(rows: Sequence[int], found: Sequence[Likelihood]) -> None:
            for row, likelihood in zip(rows, found, strict=True):
                request = requests[row][0]
                if request is not None:
                    answer = (likelihood.log_prob, likelihood.is_greedy)
                    self.cache_hook.add_partial("loglikelihood", request, answer)

        found = self._likelihoods([Continuation(given, judged) for _, given, judged in requests], keep)
        return [(likelihood.log_prob, likelihood.is_greedy) for likelihood in found]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Of whole texts, in windows of the context's length that share no judged token."""
        windows: list[Continuation] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            rolling = utils.get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for window in rolling:
                windows.append(Continuation(*utils.make_disjoint_window(window)))
                owners.append(number)
        totals = [0.0] * len(requests)
        for number, likelihood in zip(owners, self._likelihoods(windows), strict=True):
            totals[number] += likelihood.log_prob
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        answers: list[str] = [""] * len(requests)
        groups: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(repr(request.args[1]), []).append(number)
        for numbers in groups.values():
            for start in range(0, len(numbers), ANSWERS_AT_ONCE):
                batch = numbers[start : start + ANSWERS_AT_ONCE]
                contexts = [requests[number].args[0] for number in batch]
                settings = requests[batch[0]].args[1]
                for number, text in zip(batch, self._answer(contexts, settings), strict=True):
                    answers[number] = text
                    self.cache_hook.add_partial("generate_until", requests[number].args, text)
        return answers

    def _likelihoods(
        self,
        continuations: Sequence[Continuation],
        on_batch: Callable[[Sequence[int], Sequence[Likelihood]], None] = lambda rows, found: None,
    ) -> list[Likelihood]:
        return likelihoods(
            self.causal_model,
            continuations,
            context_length=self.max_length,
            device=self._device_name,
            on_batch=on_batch,
        )

    def _answer(self, contexts: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
        """Texts up to the first stop string; a prompt that leaves no room for the answer loses its beginning."""
        sampling = sampling_of(settings, seed=self._seed)
        stop = (*sampling.stop, self.tokenizer.decode([self.eot_token_id], skip_special_tokens=False))
        room = self.max_length - sampling.max_tokens
        if room <= 0:
            raise ConfigError(
                f"a task asks for answers of {sampling.max_tokens} tokens, and the model's context has {self.max_length}; set "
                "generation_kwargs.max_gen_toks of the task"
            )
        ids = [self.tok_encode(context)[-room:] for context in contexts]
        prompts = tuple(Prompt(row_id=row, text=context) for row, context in enumerate(contexts))
        rollouts = self.engine.generate(PromptBatch(prompts, tuple(map(tuple, ids))), sampling)
        texts = [self.tokenizer.decode(row.tolist(), skip_special_tokens=True) for row in rollouts.response_ids.rows()]
        return [postprocess_generated_text(text, list(stop), None) for text in texts]


def sampling_of(settings: Mapping[str, Any], *, seed: int) -> SamplingParams:
    """A task's `generation_kwargs` for a rollout engine. Raises `ConfigError` for those that it has not."""
    known = normalize_gen_kwargs(dict(settings), DEFAULT_ANSWER_TOKENS)
    unknown = sorted(set(known) - KNOWN_SETTINGS - NOT_SETTINGS)
    if known.get("num_beams", 1) != 1:
        unknown.append("num_beams")
    if unknown:
        raise ConfigError(
            f"a task sets generation_kwargs.{unknown[0]} = {known[unknown[0]]!r}, which rollout engines do not have; known: "
            f"{', '.join(sorted(KNOWN_SETTINGS))}"
        )
    until = known.get("until") or []
    return SamplingParams(
        max_tokens=int(known["max_gen_toks"]),
        temperature=float(known.get("temperature", 0.0)) if known.get("do_sample") else 0.0,
        top_p=float(known.get("top_p", 1.0)),
        top_k=int(known.get("top_k", 0)),
        min_p=float(known.get("min_p", 0.0)),
        seed=seed,
        stop=tuple(text for text in until if text),
    )
