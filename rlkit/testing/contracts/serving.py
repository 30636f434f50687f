"""What a rollout engine must do that can be asked while it answers; engines without `submit` are not asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any

from rlkit.errors import ModelError
from rlkit.testing.contracts.rollout_engine import LOG_PROB_TOLERANCE, _changed_model, _engine, _prompts
from rlkit.types import CompletionChunk, CompletionRequest, SamplingParams

if TYPE_CHECKING:
    from rlkit.rollout.engine_model import EngineModel
    from rlkit.testing import ContractContext

MAX_STEPS = 200
"""Far more steps than the short answers of these checks take."""

SAMPLING = SamplingParams(max_tokens=8, seed=11)


def _if_offered(check: Callable[[Any, EngineModel], None]) -> Callable[[ContractContext], None]:
    @wraps(check)
    def run(context: ContractContext) -> None:
        with _engine(context) as (engine, model):
            if hasattr(engine, "submit"):
                check(engine, model)

    return run


@_if_offered
def served_answers_are_those_of_generate(engine: Any, model: EngineModel) -> None:
    prompts = _prompts(model)
    rollouts = engine.generate(prompts, SAMPLING)
    answers = _run(engine, _requests(model, SAMPLING))
    expected = [row.tolist() for row in rollouts.response_ids.rows()]
    for row, tokens in enumerate(expected):
        answer = answers[f"row-{row}"]
        assert answer.tokens == tokens, f"row {row}: generate answers {tokens}, submit and step {answer.tokens}"
        assert answer.reason == rollouts.finish_reasons[row], (
            f"row {row}: finish reason {answer.reason!r}, generate says {rollouts.finish_reasons[row]!r}"
        )
    if rollouts.rollout_log_probs is not None:
        for row, values in enumerate(rollouts.rollout_log_probs.rows()):
            _compare_log_probs(answers[f"row-{row}"], values.tolist(), f"row {row}")


@_if_offered
def served_samples_are_those_of_generate(engine: Any, model: EngineModel) -> None:
    rollouts = engine.generate(_prompts(model), replace(SAMPLING, samples=3))
    expected = [row.tolist() for row in rollouts.response_ids.rows()]
    requests = [
        replace(request, request_id=f"{request.request_id}-{sample}", sample=sample)
        for request in _requests(model, SAMPLING)
        for sample in range(3)
    ]
    answers = _run(engine, requests)
    for request, tokens in zip(requests, expected, strict=True):
        answer = answers[request.request_id].tokens
        assert answer == tokens, (
            f"sample {request.sample} of row {request.row_id}: generate answers {tokens}, submit and step {answer}"
        )


@_if_offered
def different_sampling_side_by_side(engine: Any, model: EngineModel) -> None:
    kinds = (
        SAMPLING,
        replace(SAMPLING, temperature=0.0),
        replace(SAMPLING, temperature=0.6, top_k=4),
        replace(SAMPLING, top_p=0.7, max_tokens=3),
        replace(SAMPLING, min_p=0.1, seed=12),
        replace(SAMPLING, repetition_penalty=1.3, max_tokens=5),
    )
    requests = [
        replace(request, request_id=f"{number}-{request.request_id}")
        for number, sampling in enumerate(kinds)
        for request in _requests(model, sampling)
    ]
    alone = {request.request_id: _run(engine, [request])[request.request_id] for request in requests}
    together = _run(engine, requests)
    for request_id, answer in alone.items():
        assert together[request_id].tokens == answer.tokens, (
            f"request {request_id} answers {together[request_id].tokens} among others and {answer.tokens} alone"
        )


@_if_offered
def requests_join_while_others_run(engine: Any, model: EngineModel) -> None:
    requests = _requests(model, SAMPLING)
    alone = {request.request_id: _run(engine, [request])[request.request_id] for request in requests}
    answers: dict[str, _Answer] = {}
    for request in requests:
        engine.submit(request)
        for _ in range(2):
            _collect(engine.step(), answers)
    _finish(engine, answers)
    for request_id, answer in alone.items():
        assert answers[request_id].tokens == answer.tokens, f"{request_id} was disturbed by requests that came later"


@_if_offered
def aborted_requests_are_gone(engine: Any, model: EngineModel) -> None:
    requests = _requests(model, SAMPLING)
    alone = _run(engine, requests)
    for request in requests:
        engine.submit(request)
    answers: dict[str, _Answer] = {}
    _collect(engine.step(), answers)
    engine.abort(["row-1", "row-3", "never-submitted"])
    before = {name: list(answers[name].tokens) for name in ("row-1", "row-3") if name in answers}
    _finish(engine, answers)
    for name in ("row-1", "row-3"):
        after = answers[name].tokens if name in answers else []
        assert after == before.get(name, []), f"chunks of {name} came after it was aborted"
    for name in ("row-0", "row-2", "row-4"):
        assert answers[name].tokens == alone[name].tokens, f"{name} was disturbed when others were aborted"
    for request in requests:
        engine.submit(request)
    engine.abort([request.request_id for request in requests])
    assert not engine.has_work, "has_work is true after every request was aborted"
    assert _run(engine, requests)["row-1"].tokens == alone["row-1"].tokens, "an aborted id cannot be used again"


@_if_offered
def served_finish_reasons_say_why(engine: Any, model: EngineModel) -> None:
    free = _run(engine, _requests(model, SAMPLING))
    name, answer = next((name, answer) for name, answer in free.items() if len(answer.tokens) >= 3)
    row = int(name.removeprefix("row-"))
    token = answer.tokens[1]
    end = answer.tokens.index(token) + 1
    text = model.tokenizer.decode([token], skip_special_tokens=False)
    by_token = _run(engine, [_requests(model, replace(SAMPLING, stop_token_ids=(token,)))[row]])[name]
    by_string = _run(engine, [_requests(model, replace(SAMPLING, stop=(text,)))[row]])[name]
    cut = _run(engine, [_requests(model, replace(SAMPLING, max_tokens=1))[row]])[name]
    for what, stopped in (("stop_token_ids", by_token), ("stop", by_string)):
        assert stopped.tokens == answer.tokens[:end] and stopped.reason == "stop", (
            f"{what}: {stopped.tokens} with reason {stopped.reason!r}; expected {answer.tokens[:end]} and 'stop'"
        )
    assert len(cut.tokens) == 1 and cut.reason in ("length", "stop"), f"max_tokens=1 gave {cut.tokens}, {cut.reason!r}"


@_if_offered
def alternatives_are_the_likeliest(engine: Any, model: EngineModel) -> None:
    request = replace(_requests(model, replace(SAMPLING, temperature=0.0))[1], top_log_probs=4)
    answer = _run(engine, [request, replace(request, request_id="plain", top_log_probs=0)])
    asked, plain = answer["row-1"], answer["plain"]
    assert not plain.alternatives, "top_log_probs came without being asked for"
    assert len(asked.alternatives) == len(asked.tokens), "top_log_probs must be aligned with token_ids"
    for position, alternatives in enumerate(asked.alternatives):
        values = [value for _, value in alternatives]
        assert len(alternatives) == 4 and values == sorted(values, reverse=True), (
            f"position {position}: expected 4 alternatives, the likeliest first, got {alternatives}"
        )
        if alternatives[0][0] == asked.tokens[position]:  # a tie may go either way
            off = abs(values[0] - asked.log_probs[position])
            assert off < LOG_PROB_TOLERANCE, f"position {position}: the chosen token has two log-probs"


@_if_offered
def requests_that_cannot_be_answered_are_refused(engine: Any, model: EngineModel) -> None:
    good = _requests(model, SAMPLING)[0]
    engine.submit(good)
    for what, wrong in (
        ("a prompt without tokens", replace(good, request_id="empty", prompt_ids=())),
        ("an answer beyond the context", replace(good, request_id="long", prompt_ids=good.prompt_ids * 5000)),
    ):
        try:
            engine.submit(wrong)
        except ModelError:
            continue
        raise AssertionError(f"submit accepted {what}; a ModelError was expected")
    answers: dict[str, _Answer] = {}
    _finish(engine, answers)
    assert list(answers) == ["row-0"], "a refused request disturbed the one that was running"


@_if_offered
def served_answers_name_their_weights(engine: Any, model: EngineModel) -> None:
    before = _run(engine, _requests(model, SAMPLING))
    engine.update_weights(model.family.export_weights(_changed_model(model)), 3)
    after = _run(engine, _requests(model, SAMPLING))
    assert {answer.version for answer in before.values()} == {0}
    assert {answer.version for answer in after.values()} == {3}, "policy_version is not the one of update_weights"


@_if_offered
def an_idle_engine_has_nothing_to_say(engine: Any, model: EngineModel) -> None:
    assert not engine.has_work, "has_work is true before the first request"
    assert list(engine.step()) == [], "step returned chunks without any request"


CHECKS: tuple[Callable[[ContractContext], None], ...] = (
    served_answers_are_those_of_generate,
    served_samples_are_those_of_generate,
    different_sampling_side_by_side,
    requests_join_while_others_run,
    aborted_requests_are_gone,
    served_finish_reasons_say_why,
    alternatives_are_the_likeliest,
    requests_that_cannot_be_answered_are_refused,
    served_answers_name_their_weights,
    an_idle_engine_has_nothing_to_say,
)


class _Answer:
    """The chunks of one request put together."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.log_probs: list[float] = []
        self.alternatives: list[tuple[tuple[int, float], ...]] = []
        self.reason: str | None = None
        self.version = -1

    def add(self, chunk: CompletionChunk) -> None:
        assert self.reason is None, f"a chunk of {chunk.request_id} came after its finish reason"
        assert len(chunk.log_probs) in (0, len(chunk.token_ids)), f"{chunk.request_id}: log_probs are not aligned"
        self.tokens += chunk.token_ids
        self.log_probs += chunk.log_probs
        self.alternatives += chunk.top_log_probs
        self.reason, self.version = chunk.finish_reason, chunk.policy_version


def _requests(model: EngineModel, sampling: SamplingParams) -> list[CompletionRequest]:
    """The suite's prompts, with the row ids that they have in `generate`."""
    prompts = _prompts(model)
    return [
        CompletionRequest(f"row-{row}", token_ids, sampling, row_id=prompts.prompts[row].row_id)
        for row, token_ids in enumerate(prompts.token_ids)
    ]


def _run(engine: Any, requests: Sequence[CompletionRequest]) -> dict[str, _Answer]:
    """Submit all, then step to the end."""
    answers: dict[str, _Answer] = {}
    for request in requests:
        engine.submit(request)
    _finish(engine, answers)
    missing = {request.request_id for request in requests} - set(answers)
    assert not missing, f"no chunk came for {', '.join(sorted(missing))}"
    return answers


def _finish(engine: Any, answers: dict[str, _Answer]) -> None:
    for _ in range(MAX_STEPS):
        if not engine.has_work:
            return
        _collect(engine.step(), answers)
    raise AssertionError(f"has_work is still true after {MAX_STEPS} steps")


def _collect(chunks: Sequence[CompletionChunk], answers: dict[str, _Answer]) -> None:
    for chunk in chunks:
        answers.setdefault(chunk.request_id, _Answer()).add(chunk)


def _compare_log_probs(answer: _Answer, expected: Sequence[float], where: str) -> None:
    assert len(answer.log_probs) == len(expected), (
        f"{where}: {len(answer.log_probs)} log-probs for {len(expected)} tokens"
    )
    error = max(abs(a - b) for a, b in zip(answer.log_probs, expected, strict=True))
    assert error < LOG_PROB_TOLERANCE, f"{where}: log-probs are {error:.2g} nats away from those of generate"
