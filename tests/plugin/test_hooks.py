from __future__ import annotations

from pathlib import Path

import pytest

from rlkit.errors import BrokenPluginError, PluginNotFoundError
from rlkit.plugin import hookimpl
from rlkit.plugin.hooks import HOOK_NAMES, HookRelay
from rlkit.plugin.hookspecs import RunInfo

GROUP = "rlkit.hooks"
SOURCE = """
from rlkit.plugin import PluginKind, PluginSpec, hookimpl

spec = PluginSpec(kind=PluginKind.HOOK, target="{module}:Hook", summary="A test.", always_on={always_on})
heard = []

class Hook:
    @hookimpl
    def step_finished(self, step):
        heard.append(step)
        {extra}
"""


def source(module: str, *, always_on: bool = True, extra: str = "") -> str:
    return SOURCE.format(module=module, always_on=always_on, extra=extra)


@pytest.fixture
def run(tmp_path: Path) -> RunInfo:
    return RunInfo("ppo", "first", tmp_path, {}, total_steps=3, first_step=0)


@pytest.fixture
def only_ours(monkeypatch):
    monkeypatch.setenv("RLKIT_DISABLED_PLUGINS", "rlkit-llm")


class Recorder:
    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []

    @hookimpl
    def run_started(self, run):
        self.heard.append(("run_started", run.name))

    @hookimpl
    def step_finished(self, step, metrics):
        self.heard.append(("step_finished", (step, metrics)))


class Raiser:
    calls = 0

    @hookimpl
    def step_finished(self, step):
        type(self).calls += 1
        raise ValueError("no\ndisk")


def test_the_events_are_those_of_a_run_in_order():
    assert HOOK_NAMES[0] == "run_started"
    assert HOOK_NAMES[-1] == "run_finished"


class TestCalling:
    def test_a_hook_gets_the_arguments_that_it_names(self, run):
        relay, recorder = HookRelay(), Recorder()
        relay.add("recorder", recorder)
        relay.run_started(run=run)
        relay.step_finished(run=run, step=1, metrics={"a": 1.0})
        relay.run_finished(run=run, status="finished")
        assert recorder.heard == [("run_started", "first"), ("step_finished", (1, {"a": 1.0}))]

    def test_a_hook_that_raises_is_reported_once_and_not_called_again(self, run, capsys):
        relay, recorder = HookRelay(), Recorder()
        relay.add("raiser", Raiser(), origin="acme 1.0")
        relay.add("recorder", recorder)
        Raiser.calls = 0
        for step in (1, 2):
            relay.step_finished(run=run, step=step, metrics={})
        assert Raiser.calls == 1
        assert [heard[0] for heard in recorder.heard] == ["step_finished"] * 2
        assert capsys.readouterr().err == (
            "warning: hook 'raiser' is switched off for this run: step_finished of acme 1.0 raised ValueError: no disk\n"
        )
        assert set(relay.failures) == {"raiser"}

    @pytest.mark.parametrize("first", ["raiser", "recorder"])
    def test_the_order_of_registration_protects_nobody(self, run, first):
        relay, recorder = HookRelay(), Recorder()
        hooks = {"raiser": Raiser(), "recorder": recorder}
        for name in sorted(hooks, key=lambda name: name != first):
            relay.add(name, hooks[name])
        relay.step_finished(run=run, step=1, metrics={})
        assert len(recorder.heard) == 1

    def test_a_hook_that_exits_is_switched_off_like_one_that_raises(self, run, capsys):
        class Exits:
            @hookimpl
            def step_finished(self, step):
                raise SystemExit("full")

        relay = HookRelay()
        relay.add("exits", Exits())
        relay.step_finished(run=run, step=1, metrics={})
        assert "step_finished raised SystemExit: full" in capsys.readouterr().err

    def test_ctrl_c_in_a_hook_is_not_the_hooks_to_keep(self, run):
        class Slow:
            @hookimpl
            def step_finished(self, step):
                raise KeyboardInterrupt

        relay = HookRelay()
        relay.add("slow", Slow())
        with pytest.raises(KeyboardInterrupt):
            relay.step_finished(run=run, step=1, metrics={})

    def test_a_method_may_listen_under_another_name(self, run):
        class Renamed:
            heard = 0

            @hookimpl(specname="step_finished")
            def count_steps(self, step):
                self.heard += step

        relay, hook = HookRelay(), Renamed()
        relay.add("renamed", hook)
        relay.step_finished(run=run, step=3, metrics={})
        assert hook.heard == 3

    def test_an_event_that_does_not_exist_is_a_programming_error(self):
        with pytest.raises(AttributeError):
            HookRelay().step_finishd()


class TestRegistering:
    def test_a_misspelt_event_is_refused_with_the_right_name(self):
        class Misspelt:
            @hookimpl
            def step_finishd(self, step):
                pass

        with pytest.raises(
            BrokenPluginError, match=r"hook 'm' from acme 1\.0 listens to 'step_finishd', .*'step_finished'"
        ):
            HookRelay().add("m", Misspelt(), origin="acme 1.0")

    def test_a_parameter_that_the_event_lacks_is_refused(self):
        class Wrong:
            @hookimpl
            def step_finished(self, stepp):
                pass

        with pytest.raises(BrokenPluginError, match="stepp"):
            HookRelay().add("wrong", Wrong())

    def test_an_async_method_is_refused_because_nobody_would_wait_for_it(self):
        class Async:
            @hookimpl
            async def step_finished(self, step):
                pass

        with pytest.raises(BrokenPluginError, match="hook 'a': 'step_finished' is async; make it a plain method"):
            HookRelay().add("a", Async())

    @pytest.mark.parametrize("marks", [{"wrapper": True}, {"hookwrapper": True}])
    def test_a_wrapper_is_refused_because_there_is_nothing_to_wrap(self, marks):
        class Wraps:
            @hookimpl(**marks)
            def step_finished(self, step):
                yield

        with pytest.raises(BrokenPluginError, match="hook 'w': 'step_finished' is a wrapper"):
            HookRelay().add("w", Wraps())

    def test_an_attribute_that_raises_is_a_broken_plugin(self):
        class Lazy:
            @property
            def client(self):
                raise RuntimeError("no network")

            @hookimpl
            def step_finished(self, step):
                pass

        with pytest.raises(BrokenPluginError, match="hook 'lazy': RuntimeError: no network"):
            HookRelay().add("lazy", Lazy())

    def test_unmarked_methods_are_left_alone(self, run):
        class Plain:
            def step_finished(self, step):
                raise AssertionError("never called")

            def helper(self):
                raise AssertionError("never called")

        relay = HookRelay()
        relay.add("plain", Plain())
        relay.step_finished(run=run, step=1, metrics={})
        assert relay.failures == {}


class TestForRun:
    def heard(self, module: str) -> list[int]:
        import importlib

        return importlib.import_module(module).heard

    def test_hooks_that_are_always_on_hear_every_run_and_others_only_when_named(self, install, only_ours, run):
        install("one", {GROUP: {"on": "hook_on:spec"}}, {"hook_on": source("hook_on")})
        install("two", {GROUP: {"off": "hook_off:spec"}}, {"hook_off": source("hook_off", always_on=False)})
        HookRelay.for_run().step_finished(run=run, step=1, metrics={})
        assert (self.heard("hook_on"), self.heard("hook_off")) == ([1], [])
        HookRelay.for_run(["off"]).step_finished(run=run, step=2, metrics={})
        assert (self.heard("hook_on"), self.heard("hook_off")) == ([1, 2], [2])

    def test_a_named_hook_that_is_always_on_is_called_once(self, install, only_ours, run):
        install("one", {GROUP: {"on": "hook_on:spec"}}, {"hook_on": source("hook_on")})
        HookRelay.for_run(["on"]).step_finished(run=run, step=1, metrics={})
        assert self.heard("hook_on") == [1]

    def test_a_skipped_hook_is_not_called(self, install, only_ours, run):
        install("one", {GROUP: {"on": "hook_on:spec"}}, {"hook_on": source("hook_on")})
        HookRelay.for_run(skip=["on"]).step_finished(run=run, step=1, metrics={})
        assert self.heard("hook_on") == []

    @pytest.mark.parametrize("broken", ["raise RuntimeError('no licence')", source("hook_bad") + "\n1 / 0"])
    def test_a_broken_hook_is_reported_with_its_distribution_and_the_others_are_called(
        self, install, only_ours, run, capsys, broken
    ):
        install("bad", {GROUP: {"a_bad": "hook_bad:spec"}}, {"hook_bad": broken})
        install("one", {GROUP: {"on": "hook_on:spec"}}, {"hook_on": source("hook_on")})
        HookRelay.for_run().step_finished(run=run, step=1, metrics={})
        assert self.heard("hook_on") == [1]
        warning = capsys.readouterr().err
        assert warning.startswith(
            "warning: hook 'a_bad' is switched off for this run: hook 'a_bad' from bad 1.0 failed"
        )
        assert len(warning.splitlines()) == 1

    def test_a_hook_whose_constructor_fails_is_reported_with_its_distribution(self, install, only_ours, capsys):
        text = source("hook_bad").replace(
            "class Hook:", "class Hook:\n    def __init__(self): raise OSError('no disk')\n"
        )
        install("bad", {GROUP: {"bad": "hook_bad:spec"}}, {"hook_bad": text})
        HookRelay.for_run()
        assert "hook 'bad' from bad 1.0: OSError: no disk" in capsys.readouterr().err

    def test_a_broken_hook_that_is_named_stops_the_run_before_it_starts(self, install, only_ours):
        install("bad", {GROUP: {"bad": "hook_bad:spec"}}, {"hook_bad": "raise RuntimeError('no licence')"})
        with pytest.raises(BrokenPluginError, match="no licence"):
            HookRelay.for_run(["bad"])

    def test_an_unknown_hook_is_named_with_what_is_installed(self):
        with pytest.raises(
            PluginNotFoundError,
            match=r"hook 'consol' not found; installed: console, jsonl, .*\. Did you mean 'console'",
        ):
            HookRelay.for_run(["consol"])
