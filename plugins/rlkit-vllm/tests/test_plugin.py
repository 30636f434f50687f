from __future__ import annotations

import subprocess
import sys

import pytest
from rlkit_vllm.options import VLLMEngineOptions

from rlkit.errors import ConfigError, MissingRequirementError
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin, load_spec, missing_requirements


def test_description_options_and_target_import_no_vllm() -> None:
    code = "import sys, rlkit_vllm.plugin, rlkit_vllm.options, rlkit_vllm.engine; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_description_and_options_import_no_torch() -> None:
    code = "import sys, rlkit_vllm.plugin, rlkit_vllm.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_vllm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)  # what find_spec takes for absent
    assert missing_requirements(load_spec(PluginKind.ROLLOUT_ENGINE, "vllm")) == ["vllm"]
    with pytest.raises(
        MissingRequirementError, match=r"needs vllm; pip install 'rlkit-vllm\[gpu\]', without a GPU 'rlkit-vllm\[cpu\]'"
    ):
        load_plugin(PluginKind.ROLLOUT_ENGINE, "vllm")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gpu_memory_utilisation": 0.5}, "gpu_memory_utilization"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization"),
        ({"enforce_eager": "never"}, "enforce_eager"),
        ({"max_num_seqs": 0}, "max_num_seqs"),
    ],
)
def test_a_wrong_option_is_refused_by_name(values: dict[str, object], message: str) -> None:
    from rlkit.config.errors import validate_section

    with pytest.raises(ConfigError, match=rf"rollout\.options\..*{message}"):
        validate_section(VLLMEngineOptions, values, where="rollout.options")
