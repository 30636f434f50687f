"""What every hook must do: listen to events that exist, and take each of them without raising."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlkit.plugin.hooks import HookRelay
    from rlkit.testing import ContractContext


def listens_to_events_that_exist(context: ContractContext) -> None:
    """A misspelt method would never be called, and nobody would notice."""
    assert _relay(context).heard_events, "no method is marked with `hookimpl`, so the hook hears nothing"


def takes_every_event_of_a_run(context: ContractContext) -> None:
    _run(context, first_step=0, metrics={"reward/mean": 0.5, "time/step_s": 1.0})


def takes_a_resumed_run_and_odd_numbers(context: ContractContext) -> None:
    _run(context, first_step=1, metrics={"actor/grad_norm": float("nan"), "reward/max": float("inf")})


CHECKS: tuple[Callable[[ContractContext], None], ...] = (
    listens_to_events_that_exist,
    takes_every_event_of_a_run,
    takes_a_resumed_run_and_odd_numbers,
)


def _relay(context: ContractContext) -> HookRelay:
    from rlkit.plugin.hooks import HookRelay, make_hook

    relay = HookRelay()
    parsed = context.plugin.parse_options(context.options, where="options")
    relay.add(context.plugin.name, make_hook(context.plugin.target, parsed))
    return relay


def _run(context: ContractContext, *, first_step: int, metrics: dict[str, float]) -> None:
    from rlkit.plugin.hookspecs import RunInfo
    from rlkit.testing.fakes import FakeEngine, FakeScorer, FakeTokenizer, fake_prompts
    from rlkit.types import Sample, SamplingParams

    relay = _relay(context)
    config = {"run": {"name": "contract"}}
    run = RunInfo("ppo", "contract", context.tmp_path, config, total_steps=2, first_step=first_step)
    rollouts = FakeEngine().generate(fake_prompts(2), SamplingParams(max_tokens=2))
    texts = FakeTokenizer().batch_decode([row.tolist() for row in rollouts.response_ids.rows()])
    rewards = FakeScorer().score([Sample(prompt, text) for prompt, text in zip(rollouts.prompts, texts, strict=True)])
    relay.run_started(run=run)
    for step in range(first_step + 1, 3):
        relay.rollouts_ready(run=run, step=step, rollouts=rollouts, rewards=rewards, responses=texts)
        relay.step_finished(run=run, step=step, metrics=metrics)
        relay.validation_finished(run=run, step=step, metrics={"validation/score": 0.5})
        relay.checkpoint_saved(run=run, step=step, folder=context.tmp_path)
    relay.run_finished(run=run, status="finished")
    assert not relay.failures, f"the hook raised: {'; '.join(relay.failures.values())}"
