from __future__ import annotations

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError


def load(kind, *assignments):
    return load_config(kind, assignments=list(assignments), environ={}).config


@pytest.mark.parametrize(
    ("kind", "section"), [("ppo", "actor"), ("ppo", "critic"), ("sft", "sft")], ids=lambda name: name
)
def test_a_rank_switches_it_on_for_each_trained_role(kind, section):
    assert getattr(load(kind), section).lora.rank == 0
    lora = getattr(load(kind, f"{section}.lora.rank=16"), section).lora
    assert (lora.rank, lora.alpha, lora.targets) == (16, 32.0, ("all_linear",))


def test_one_target_may_stand_alone():
    assert load("sft", "sft.lora.rank=2", "sft.lora.targets=q_proj").sft.lora.targets == ("q_proj",)


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (["actor.lora.rank=-1"], r"actor\.lora\.rank = -1 .*greater than or equal to 0"),
        (["actor.lora.rank=4", "actor.lora.alpha=0"], r"actor\.lora\.alpha = 0 .*greater than 0"),
        (["actor.lora.alpha=16"], r"actor\.lora\.alpha = 16 has no effect while rank is 0; set a rank"),
        (["actor.lora.targets=q_proj"], r"actor\.lora\.targets = \['q_proj'\] has no effect"),
        (["actor.lora.rank=4", 'actor.lora.targets=["all_linear","q_proj"]'], "give all_linear alone"),
        (["actor.lora.rank=4", "actor.lora.targets=[]"], r"actor\.lora\.targets = \[\]"),
        (["actor.lora.dropout=0.1", "actor.lora.rank=4"], r"unknown key actor\.lora\.dropout"),
        (["actor.lora.r=4"], r"unknown key actor\.lora\.r"),
    ],
)
def test_what_could_not_work_is_one_clear_line(assignments, said):
    with pytest.raises(ConfigError, match=said) as raised:
        load("ppo", *assignments)
    assert "\n" not in str(raised.value)


def test_with_adapters_the_base_is_the_reference_unless_another_is_named():
    def base_is_reference(*assignments):
        return load("ppo", *assignments).base_is_reference

    lora, penalty = "actor.lora.rank=4", "algorithm.kl_loss=0.1"
    assert base_is_reference(lora, penalty)
    assert not base_is_reference(lora)
    assert not base_is_reference(penalty)
    assert not base_is_reference(lora, penalty, "reference.path=other")
    assert not base_is_reference(lora, penalty, "reference.refresh_every=5")
