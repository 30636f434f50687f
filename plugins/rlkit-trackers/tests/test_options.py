from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
from rlkit_trackers.options import TrackioOptions

from rlkit.config.errors import validate_section
from rlkit.config.load import load_config
from rlkit.errors import ConfigError, PluginError
from rlkit.pipelines.preflight import check_selection, selections
from rlkit.plugin import PluginKind


def hook_selection(*assignments: str):
    resolved = load_config("ppo", assignments=assignments, environ={})
    return next(found for found in selections(resolved) if found.kind is PluginKind.HOOK)


def test_options_of_a_hook_that_is_not_chosen_are_refused():
    with pytest.raises(ConfigError, match=r"names wandb, which .* does not; hooks: tensorboard"):
        load_config("ppo", assignments=["run.hooks=['tensorboard']", "run.hook_options.wandb.project=a"], environ={})


def test_a_wrong_option_is_named_with_its_path():
    chosen = hook_selection("run.hooks=['tensorboard']", "run.hook_options.tensorboard.foldr=logs")
    with pytest.raises(ConfigError, match=r"unknown key run\.hook_options\.tensorboard\.foldr; did you mean .*folder"):
        check_selection(chosen)


def test_a_wrong_value_is_refused():
    chosen = hook_selection("run.hooks=['tensorboard']", "run.hook_options.tensorboard.queue=0")
    with pytest.raises(ConfigError, match=r"run\.hook_options\.tensorboard\.queue = 0"):
        check_selection(chosen)


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow", "trackio"])
def test_a_missing_package_is_one_line_with_what_to_install(name, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module, *rest: None if module == name else found(module))
    with pytest.raises(PluginError, match=rf"needs {name}; pip install \"rlkit-trackers\[{name}\]\"") as caught:
        check_selection(hook_selection(f"run.hooks=['{name}']"))
    assert "\n" not in str(caught.value)


def test_choosing_trackers_imports_none_of_their_packages():
    code = """
import sys
from rlkit_trackers import hooks, options
hooks.tensorboard(options.TensorBoardOptions()), hooks.wandb(options.WandbOptions())
hooks.mlflow(options.MLflowOptions()), hooks.trackio(options.TrackioOptions())
print([name for name in ("tensorboard", "wandb", "mlflow", "trackio", "torch") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_space_and_a_server_exclude_each_other():
    with pytest.raises(ConfigError, match="give one of them"):
        validate_section(TrackioOptions, {"space_id": "a/b", "server_url": "http://c"})
