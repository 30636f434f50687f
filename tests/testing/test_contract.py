from __future__ import annotations

import subprocess
import sys

import pytest

from rlkit.config import PluginOptions
from rlkit.errors import ConfigError
from rlkit.plugin import PluginKind, PluginSpec
from rlkit.plugin.loader import LoadedPlugin, load_plugin
from rlkit.testing import ContractCheck, ContractContext, contract_checks


class Options(PluginOptions):
    strength: int = 3


def context(tmp_path, target, *, options_class=None, **more):
    spec = PluginSpec(kind=PluginKind.REWARD_FUNCTION, target="m:t", summary="A test.")
    return ContractContext(
        LoadedPlugin(spec.kind, "acme", spec, "acme", "1.0", target, options_class), tmp_path, **more
    )


@pytest.mark.parametrize("kind", PluginKind)
def test_every_kind_has_a_suite_of_differently_named_checks(kind):
    names = [check.name for check in contract_checks(kind)]
    assert len(names) >= 4
    assert len(set(names)) == len(names)
    assert names == [str(check) for check in contract_checks(kind)]
    assert all("_" not in name for name in names)


def test_calling_a_check_passes_the_context_on_and_lets_failures_out(tmp_path):
    seen = []

    def fails(given):
        seen.append(given)
        raise AssertionError("no")

    given = context(tmp_path, print)
    with pytest.raises(AssertionError, match="no"):
        ContractCheck("fails", fails)(given)
    assert seen == [given]


class TestBuild:
    def test_a_target_without_options_gets_the_context_alone(self, tmp_path):
        assert context(tmp_path, lambda **given: given).build(model=1) == {"model": 1}

    def test_options_come_first_with_their_defaults(self, tmp_path):
        built = context(tmp_path, lambda options, **given: (options.strength, given), options_class=Options)
        assert built.build(model=1) == (3, {"model": 1})

    def test_other_options_may_be_given(self, tmp_path):
        built = context(tmp_path, lambda options: options.strength, options_class=Options, options={"strength": 5})
        assert built.build() == 5

    def test_wrong_options_are_refused(self, tmp_path):
        built = context(tmp_path, lambda options: options, options_class=Options, options={"strenght": 5})
        with pytest.raises(ConfigError, match=r"options\.strenght"):
            built.build()


def test_the_tiny_model_is_made_once_and_opens(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    first, second = (context(tmp_path, print).tiny_model() for _ in range(2))
    assert first == second
    model = AutoModelForCausalLM.from_pretrained(first)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    tokenizer = AutoTokenizer.from_pretrained(first)
    assert tokenizer.decode(tokenizer.encode("2+2=", add_special_tokens=False)) == "2+2="
    assert tokenizer.eos_token_id is not None


def test_importing_the_kit_and_listing_a_suite_imports_no_torch():
    source = (
        "import sys\n"
        "from rlkit.testing import contract_checks\n"
        "from rlkit.plugin import PluginKind\n"
        "for kind in PluginKind: contract_checks(kind)\n"
        "print(*({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", ["console", "jsonl"])
@pytest.mark.parametrize("check", contract_checks(PluginKind.HOOK), ids=str)
def test_the_hooks_that_come_with_rlkit_keep_their_contract(name, check, tmp_path):
    check(ContractContext(load_plugin(PluginKind.HOOK, name), tmp_path))
