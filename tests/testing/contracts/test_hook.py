"""The hook contract is worth something only if it fails for hooks with a fault."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rlkit.errors import BrokenPluginError
from rlkit.plugin import hookimpl
from rlkit.testing.contracts import hook as contract


class Good:
    @hookimpl
    def run_started(self, run: Any) -> None:
        self.steps = run.first_step

    @hookimpl
    def step_finished(self, step: int, metrics: Any) -> None:
        assert step == self.steps + 1
        self.steps = step

    @hookimpl
    def rollouts_ready(self, rollouts: Any, rewards: Any) -> None:
        assert len(rollouts) == len(rewards) == 2


class Renamed:
    @hookimpl(specname="step_finished")
    def log(self, metrics: Any) -> None: ...


class Unmarked:
    def step_finished(self, step: int, metrics: Any) -> None: ...


class Misspelt:
    @hookimpl
    def step_finish(self, step: int) -> None: ...


class WrongParameter:
    @hookimpl
    def step_finished(self, stepp: int) -> None: ...


class RaisesAtTheEnd:
    @hookimpl
    def run_finished(self, status: str) -> None:
        raise ConnectionError("no network")


class CountsFromZero:
    @hookimpl
    def step_finished(self, step: int) -> None:
        self.steps = [*getattr(self, "steps", []), step]
        assert self.steps[0] == 1


class RoundsMetrics:
    @hookimpl
    def step_finished(self, metrics: Any) -> None:
        [round(value) for value in metrics.values()]


def context(target: Any, tmp_path: Any) -> Any:
    plugin = SimpleNamespace(name="acme", target=target, parse_options=lambda options, where: None)
    return SimpleNamespace(plugin=plugin, tmp_path=tmp_path, options={})


@pytest.mark.parametrize("target", [Good, Good(), Renamed], ids=["class", "object", "other-names"])
@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_a_good_hook_passes(check, target, tmp_path):
    check(context(target, tmp_path))


@pytest.mark.parametrize(
    ("check", "target", "cause"),
    [
        (contract.listens_to_events_that_exist, Unmarked, "no method is marked"),
        (contract.takes_every_event_of_a_run, RaisesAtTheEnd, "run_finished raised ConnectionError: no network"),
        (contract.takes_a_resumed_run_and_odd_numbers, CountsFromZero, "step_finished raised AssertionError"),
        (contract.takes_a_resumed_run_and_odd_numbers, RoundsMetrics, "cannot convert float NaN to integer"),
    ],
)
def test_a_fault_is_found(check, target, cause, tmp_path):
    with pytest.raises(AssertionError, match=cause):
        check(context(target, tmp_path))


@pytest.mark.parametrize(("target", "cause"), [(Misspelt, "did you mean 'step_finished'"), (WrongParameter, "stepp")])
def test_what_would_never_be_called_is_said_when_it_is_loaded(target, cause, tmp_path):
    with pytest.raises(BrokenPluginError, match=cause):
        contract.listens_to_events_that_exist(context(target, tmp_path))
