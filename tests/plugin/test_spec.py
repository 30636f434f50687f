from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from rlkit.plugin import PLUGIN_API_VERSION, PluginKind, PluginSpec


def test_every_kind_has_a_group_and_a_label():
    assert {kind: (kind.group, kind.label) for kind in PluginKind} == {
        PluginKind.MODEL_FAMILY: ("rlkit.model_families", "model family"),
        PluginKind.ROLLOUT_ENGINE: ("rlkit.rollout_engines", "rollout engine"),
        PluginKind.ACTOR_BACKEND: ("rlkit.actor_backends", "actor backend"),
        PluginKind.REWARD_FUNCTION: ("rlkit.reward_functions", "reward function"),
        PluginKind.ADVANTAGE_ESTIMATOR: ("rlkit.advantage_estimators", "advantage estimator"),
        PluginKind.POLICY_LOSS: ("rlkit.policy_losses", "policy loss"),
        PluginKind.HOOK: ("rlkit.hooks", "hook"),
    }


def test_a_spec_is_written_for_the_present_api_unless_it_says_otherwise():
    assert PluginSpec(kind=PluginKind.HOOK, target="m:t", summary="A test.").api_version == PLUGIN_API_VERSION


def test_a_spec_is_made_by_keyword_and_never_changed():
    with pytest.raises(TypeError):
        PluginSpec(PluginKind.HOOK, "m:t", "A test.")  # type: ignore[misc]
    spec = PluginSpec(kind=PluginKind.HOOK, target="m:t", summary="A test.")
    with pytest.raises(FrozenInstanceError):
        spec.target = "m:u"  # type: ignore[misc]


def test_describing_a_plugin_imports_the_standard_library_alone():
    heavy = {"torch", "transformers", "pydantic", "pluggy", "numpy", "rich", "typer"}
    source = f"import sys; from rlkit.plugin import PluginKind, PluginSpec; print(*({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_hookimpl_is_offered_beside_the_spec():
    from rlkit.plugin import hookimpl
    from rlkit.plugin.hookspecs import hookimpl as original

    assert hookimpl is original


def test_a_name_that_is_not_offered_is_an_import_error():
    with pytest.raises(ImportError):
        exec("from rlkit.plugin import hookimp")
