"""What every rollout engine must do: whole answers, honest log-probs, reproducible samples, weights really replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rlkit.errors import ModelError
from rlkit.types import Prompt, PromptBatch, Rollouts, SamplingParams

if TYPE_CHECKING:
    from torch import Tensor

    from rlkit.rollout.engine_model import EngineModel
    from rlkit.testing import ContractContext
    from rlkit.types import AdapterWeights

PROMPTS = ("2", "17+4=", "3-1=", "88", "5+5+5=12")
LOG_PROB_TOLERANCE = 1e-4  # nats, float32


def rows_are_whole_and_in_order(context: ContractContext) -> None:
    with _engine(context) as (engine, model):
        prompts = _prompts(model)
        rollouts = engine.generate(prompts, SamplingParams(max_tokens=6, samples=3, seed=1))
    assert len(rollouts) == 3 * len(prompts), f"{len(rollouts)} rows for {len(prompts)} prompts x 3 samples"
    assert rollouts.group_ids.tolist() == [row for row in range(len(prompts)) for _ in range(3)], (
        "group_ids out of order"
    )
    for row, (prompt_ids, response) in enumerate(
        zip(rollouts.prompt_ids.rows(), rollouts.response_ids.rows(), strict=True)
    ):
        assert tuple(prompt_ids.tolist()) == prompts.token_ids[row // 3], f"row {row} has another prompt's tokens"
        assert rollouts.prompts[row] is prompts.prompts[row // 3], f"row {row} carries another prompt"
        assert 1 <= len(response) <= 6, f"row {row} has {len(response)} response tokens, expected 1 to 6"
    assert rollouts.response_mask.lengths.tolist() == rollouts.response_ids.lengths.tolist(), (
        "response_mask has other lengths"
    )
    assert bool(rollouts.response_mask.values.all()), (
        "every token was sampled, so response_mask must be True everywhere"
    )


def finish_reasons_say_why(context: ContractContext) -> None:
    with _engine(context) as (engine, model):
        rollouts = engine.generate(_prompts(model), SamplingParams(max_tokens=8, samples=8, seed=2))
    end = model.tokenizer.eos_token_id
    for row, response in enumerate(rollouts.response_ids.rows()):
        tokens = response.tolist()
        reason = rollouts.finish_reasons[row]
        assert end not in tokens[:-1], f"row {row} goes on after the end-of-sequence token"
        if tokens[-1] == end:
            assert reason == "stop", (
                f"row {row} ends with the end-of-sequence token, but its finish reason is {reason!r}"
            )
        else:
            assert reason == "length" and len(tokens) == 8, (
                f"row {row} stopped after {len(tokens)} tokens with reason {reason!r}"
            )


def stop_tokens_and_strings_end_answers(context: ContractContext) -> None:
    with _engine(context) as (engine, model):
        prompts = _prompts(model)
        free = engine.generate(prompts, SamplingParams(max_tokens=8, seed=3))
        tokens = next(row.tolist() for row in free.response_ids.rows() if len(row) >= 3)
        stop = tokens[1]
        by_token = engine.generate(prompts, SamplingParams(max_tokens=8, seed=3, stop_token_ids=(stop,)))
        text = model.tokenizer.decode([stop], skip_special_tokens=False)
        by_string = engine.generate(prompts, SamplingParams(max_tokens=8, seed=3, stop=(text,)))
    for name, rollouts in (("stop_token_ids", by_token), ("stop", by_string)):
        for before, after in zip(free.response_ids.rows(), rollouts.response_ids.rows(), strict=True):
            expected = _until(before.tolist(), stop)
            assert after.tolist() == expected, f"{name}: expected {expected}, got {after.tolist()}"
    assert "stop" in by_token.finish_reasons and "stop" in by_string.finish_reasons


def samples_of_a_prompt_differ(context: ContractContext) -> None:
    with _engine(context) as (engine, model):
        rollouts = engine.generate(_prompts(model).select([1]), SamplingParams(max_tokens=8, samples=16, seed=4))
    answers = {tuple(row.tolist()) for row in rollouts.response_ids.rows()}
    assert len(answers) > 8, f"16 samples at temperature 1 gave only {len(answers)} different answers"


def the_seed_decides_whatever_the_batch(context: ContractContext) -> None:
    sampling = SamplingParams(max_tokens=8, samples=2, seed=5)
    with _engine(context) as (engine, model):
        prompts = _prompts(model)
        whole = _answers(engine.generate(prompts, sampling))
        again = _answers(engine.generate(prompts, sampling))
        reordered = _answers(engine.generate(prompts.select([3, 0, 4]), sampling))
        other = _answers(engine.generate(prompts, SamplingParams(max_tokens=8, samples=2, seed=6)))
    assert again == whole, "the same seed gave other answers"
    expected = [whole[2 * row + sample] for row in (3, 0, 4) for sample in (0, 1)]
    assert reordered == expected, "answers depend on what else is in the batch"
    assert other != whole, "another seed gave the same answers"


def log_probs_agree_with_a_recomputation(context: ContractContext) -> None:
    """Of every engine that does not say `gives_log_probs = False`; see `rlkit.protocols.RolloutEngine`."""
    for temperature in (1.0, 0.7):
        with _engine(context) as (engine, model):
            rollouts = engine.generate(
                _prompts(model), SamplingParams(max_tokens=8, samples=2, seed=7, temperature=temperature)
            )
        if not getattr(engine, "gives_log_probs", True):
            assert rollouts.rollout_log_probs is None, "rollout_log_probs are there, but gives_log_probs is False"
            return
        assert rollouts.rollout_log_probs is not None, (
            "rollout_log_probs is None; an engine that cannot give them says so with gives_log_probs = False"
        )
        _compare_log_probs(rollouts, _reference_model(model), temperature)


def greedy_takes_the_likeliest_token(context: ContractContext) -> None:
    import torch

    with _engine(context) as (engine, model):
        rollouts = engine.generate(_prompts(model), SamplingParams(max_tokens=6, temperature=0.0))
    reference = _reference_model(model)
    for prompt_ids, response in zip(rollouts.prompt_ids.rows(), rollouts.response_ids.rows(), strict=True):
        with torch.no_grad():
            logits = reference(torch.cat([prompt_ids, response])[None]).logits[0, len(prompt_ids) - 1 : -1]
        chosen = logits.gather(1, response[:, None])[:, 0]
        # A tie, up to rounding, may go either way.
        assert bool((logits.amax(dim=-1) - chosen <= LOG_PROB_TOLERANCE).all()), (
            "greedy decoding took a less likely token"
        )


def updated_weights_are_the_ones_that_answer(context: ContractContext) -> None:
    import torch

    sampling = SamplingParams(max_tokens=8, samples=2, seed=8)
    with _engine(context) as (engine, model):
        prompts = _prompts(model)
        before = _answers(engine.generate(prompts, sampling))
        changed = _changed_model(model)
        engine.update_weights(model.family.export_weights(changed), 3)
        rollouts = engine.generate(prompts, sampling)
        assert rollouts.policy_version == 3, f"policy_version is {rollouts.policy_version} after update_weights(..., 3)"
        assert _answers(rollouts) != before, "the answers did not change with the weights"
        if rollouts.rollout_log_probs is not None:
            _compare_log_probs(rollouts, changed, 1.0)
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter.zero_()
        again = engine.generate(prompts, sampling)
        assert _answers(again) == _answers(rollouts), "the engine shares memory with the tensors it was given"


def wrong_updates_are_refused(context: ContractContext) -> None:
    import torch

    with _engine(context) as (engine, model):
        weights = dict(model.family.export_weights(_reference_model(model)))
        name = next(name for name, tensor in weights.items() if tensor.ndim == 2)
        for what, wrong in (
            ("an unknown name", {**weights, "no.such.weight": torch.zeros(1)}),
            ("a wrong shape", {**weights, name: weights[name][:, :-1]}),
        ):
            try:
                engine.update_weights(wrong.items(), 1)
            except ModelError:
                continue
            raise AssertionError(f"update_weights accepted {what}; a ModelError was expected")


def weights_that_are_not_finite_leave_nothing_behind(context: ContractContext) -> None:
    """A cache that is used again holds NaN then, and 0 * NaN is NaN: an engine has to do more than to give it no weight."""
    sampling = SamplingParams(max_tokens=6, seed=10)
    with _engine(context) as (engine, model):
        prompts = _prompts(model)
        before = _answers(engine.generate(prompts, sampling))
        weights = list(model.family.export_weights(_reference_model(model)))
        engine.update_weights([(name, tensor * float("nan")) for name, tensor in weights], 1)
        with contextlib.suppress(ModelError):
            engine.generate(prompts, sampling)
        engine.update_weights(weights, 2)
        try:
            after = _answers(engine.generate(prompts, sampling))
        except ModelError as error:
            raise AssertionError(f"finite weights do not answer after weights that were not: {error}") from error
        assert after == before, "weights that were not finite changed later answers"


def memory_goes_and_comes_back(context: ContractContext) -> None:
    sampling = SamplingParams(max_tokens=6, seed=9)
    with _engine(context) as (engine, model):
        prompts = _prompts(model)
        before = _answers(engine.generate(prompts, sampling))
        weights = list(model.family.export_weights(_reference_model(model)))
        for _ in range(2):
            engine.release(["weights", "kv_cache"])
            engine.release(["weights", "kv_cache"])
            engine.resume(["weights"])
            engine.update_weights(weights, 1)
            engine.resume(["weights", "kv_cache"])
            assert _answers(engine.generate(prompts, sampling)) == before, (
                "release, resume and update changed the answers"
            )
        engine.release(["kv_cache"])
        engine.update_weights(weights, 2)
        engine.resume(["kv_cache"])
        assert _answers(engine.generate(prompts, sampling)) == before, (
            "weights that came while the KV cache was released changed the answers"
        )


def an_adapter_answers_as_the_merged_model(context: ContractContext) -> None:
    """Of engines that take adapters only; see `rlkit.protocols.adapters`."""
    import torch

    from rlkit.models.adapter_folder import merged_weights
    from rlkit.types import AdapterWeights

    sampling = SamplingParams(max_tokens=8, samples=2, seed=10)
    with _engine(context, lora_rank=4) as (engine, model):
        if not getattr(engine, "takes_adapters", False):
            return
        prompts = _prompts(model)
        base = dict(model.family.export_weights(_reference_model(model)))
        plain = _answers(engine.generate(prompts, sampling))
        for version, seed in ((1, 1), (2, 2)):
            adapter = _random_adapter(base, seed)
            merged = _reference_model(model)
            merged.load_state_dict(dict(merged_weights(base.items(), adapter)), strict=False)
            engine.update_adapter(adapter, version)
            for matrix in (matrix for pair in adapter.layers.values() for matrix in pair):
                matrix.zero_()
            rollouts = engine.generate(prompts, sampling)
            assert rollouts.policy_version == version, f"policy_version is {rollouts.policy_version}, not {version}"
            assert _answers(rollouts) != plain, "the answers did not change with the adapter"
            _compare_log_probs(rollouts, merged, 1.0)
        unknown = AdapterWeights(1.0, {"no.such.layer": (torch.zeros(4, 8), torch.zeros(8, 4))})
        try:
            engine.update_adapter(unknown, 3)
        except ModelError:
            pass
        else:
            raise AssertionError("update_adapter accepted an unknown layer; a ModelError was expected")
        engine.update_weights(base.items(), 4)
        assert _answers(engine.generate(prompts, sampling)) == plain, "update_weights left the adapter in place"


def closing_twice_is_harmless(context: ContractContext) -> None:
    with _engine(context) as (engine, _):
        engine.close()
        engine.close()


CHECKS: tuple[Callable[[ContractContext], None], ...] = (
    rows_are_whole_and_in_order,
    finish_reasons_say_why,
    stop_tokens_and_strings_end_answers,
    samples_of_a_prompt_differ,
    the_seed_decides_whatever_the_batch,
    log_probs_agree_with_a_recomputation,
    greedy_takes_the_likeliest_token,
    updated_weights_are_the_ones_that_answer,
    wrong_updates_are_refused,
    weights_that_are_not_finite_leave_nothing_behind,
    memory_goes_and_comes_back,
    an_adapter_answers_as_the_merged_model,
    closing_twice_is_harmless,
)


@contextlib.contextmanager
def _engine(context: ContractContext, *, lora_rank: int = 0) -> Iterator[tuple[Any, EngineModel]]:
    """An engine on the suite's tiny model, closed at the end."""
    from rlkit.models.registry import find_family
    from rlkit.models.tokenizer import load_tokenizer
    from rlkit.rollout.engine_model import EngineModel

    folder = context.tiny_model()
    model = EngineModel(
        folder=folder,
        family=find_family(folder),
        tokenizer=load_tokenizer(folder),
        dtype="float32",
        device="cpu",
        trust_remote_code=False,
        seed=0,
        lora_rank=lora_rank,
    )
    engine = context.build(model=model)
    try:
        yield engine, model
    finally:
        engine.close()


def _prompts(model: EngineModel) -> PromptBatch:
    prompts = tuple(Prompt(row_id=10 + row, text=text) for row, text in enumerate(PROMPTS))
    return PromptBatch(
        prompts, tuple(tuple(model.tokenizer.encode(text, add_special_tokens=False)) for text in PROMPTS)
    )


def _answers(rollouts: Rollouts) -> list[list[int]]:
    return [row.tolist() for row in rollouts.response_ids.rows()]


def _until(tokens: list[int], stop: int) -> list[int]:
    return tokens[: tokens.index(stop) + 1] if stop in tokens else tokens


def _reference_model(model: EngineModel) -> Any:
    """The same weights in a model of our own, evaluated without any cache."""
    import torch

    module = model.family.build(model.folder, head="causal_lm", dtype=torch.float32, device="cpu")
    model.family.load_weights(module, model.folder)
    return module.eval()


def _changed_model(model: EngineModel) -> Any:
    """The reference model with its embeddings turned around: visibly another policy, of the same scale."""
    import torch

    module = _reference_model(model)
    embeddings = module.get_input_embeddings().weight
    with torch.no_grad():
        embeddings.copy_(embeddings.flip(0))
    return module


def _random_adapter(base: Mapping[str, Tensor], seed: int) -> AdapterWeights:
    """Of rank 4 on the query and down projections, with nothing zero: visibly another policy."""
    import torch

    from rlkit.types import AdapterWeights

    generator = torch.Generator().manual_seed(seed)
    layers = {
        name.removesuffix(".weight"): (
            torch.randn(4, weight.shape[1], generator=generator) / 8,
            torch.randn(weight.shape[0], 4, generator=generator) / 8,
        )
        for name, weight in base.items()
        if "q_proj" in name or "down_proj" in name
    }
    return AdapterWeights(2.0, layers)


def _compare_log_probs(rollouts: Rollouts, reference: Any, temperature: float) -> None:
    import torch

    assert rollouts.rollout_log_probs is not None
    rows = zip(rollouts.prompt_ids.rows(), rollouts.response_ids.rows(), rollouts.rollout_log_probs.rows(), strict=True)
    for row, (prompt_ids, response, log_probs) in enumerate(rows):
        with torch.no_grad():
            logits = reference(torch.cat([prompt_ids, response])[None]).logits[0, len(prompt_ids) - 1 : -1]
        expected = torch.log_softmax(logits.float() / temperature, dim=-1).gather(1, response[:, None])[:, 0]
        error = float((expected - log_probs).abs().max())
        assert error < LOG_PROB_TOLERANCE, (
            f"row {row}: log-probs are off by {error:.2g} nats at temperature {temperature}"
        )
