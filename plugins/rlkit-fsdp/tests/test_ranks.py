"""Two ranks (and four) give the numbers of one process, whatever is spread how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.protocols.actor import LoraSettings
from rlkit.testing import ContractContext
from rlkit.testing.contracts import ranks as contract
from rlkit.testing.rank_cases import RankCase, RankRecord, train
from rlkit.testing.ranks import run_on_ranks
from rlkit.testing.tiny_model import tiny_model

pytestmark = pytest.mark.slow

EQUAL = ((0, 2, 5), (1, 3, 4))
"""Not equal in tokens, but in rows; see ROWS_ALIKE for equal tokens."""
ROWS_ALIKE = ((3, 5), (3, 5), (4, 2), (4, 2))
UNEQUAL = ((4,), (0, 1, 2, 3, 5))
NO_ROWS = ((0, 1, 2, 3, 4, 5), ())
LORA = LoraSettings(rank=4, alpha=8.0, targets=("q_proj", "down_proj"))
RELATIVE, ABSOLUTE = 1e-5, 1e-7
ABSOLUTE_KL = 1e-6
"""A KL is made of differences of log-probs of about -5, of which float32 rounds each by up to 2.4e-7."""
FEW = 8
"""Steps of cases that only change how something is spread; the others take 20."""
PRELOAD = ("rlkit_fsdp.backend", "peft")


_known: dict[str, RankRecord] = {}


def one_process(case: RankCase) -> RankRecord:
    """What one process gives, where nothing is spread; computed once."""
    alone = replace(case, options={}, shares=())
    if repr(alone) not in _known:
        (_known[repr(alone)],) = run_on_ranks(train, alone, ranks=1, preload=PRELOAD)
    return _known[repr(alone)]


def on_ranks(case: RankCase) -> list[RankRecord]:
    return run_on_ranks(train, case, ranks=len(case.shares), preload=PRELOAD)


def compare(case: RankCase, expected: RankRecord, found: list[RankRecord], *, tolerance: float = RELATIVE) -> None:
    """Metrics and weights, and this rank's outputs."""
    for rank, record in enumerate(found):
        assert record.metrics == found[0].metrics, f"rank {rank} reports other metrics than rank 0"
        for step, (ours, theirs) in enumerate(zip(record.metrics, expected.metrics, strict=True)):
            assert ours.keys() == theirs.keys()
            for name, value in theirs.items():
                rounding = ABSOLUTE_KL if "kl" in name else ABSOLUTE
                assert ours[name] == pytest.approx(value, rel=tolerance, abs=rounding), f"{name} in step {step}"
        for name, weight in expected.weights.items():
            torch.testing.assert_close(record.weights[name], weight, rtol=0, atol=tolerance, msg=name)
        for ours, theirs in zip(record.outputs, expected.outputs, strict=True):
            lengths = torch.tensor([response for _, response in case.rows])
            rows = theirs.split(lengths.tolist())
            mine = torch.cat([rows[row] for row in case.shares[rank]]) if case.shares[rank] else theirs[:0]
            torch.testing.assert_close(ours, mine, rtol=0, atol=10 * tolerance)


@pytest.fixture
def case():
    def make(kind: Any, shares: tuple[tuple[int, ...], ...] = UNEQUAL, **changes: Any) -> RankCase:
        return RankCase(kind, changes.pop("model", None) or tiny_model(), shares, **changes)

    return make


@pytest.mark.parametrize("kind", ["supervised", "ppo"])
@pytest.mark.parametrize(
    ("shares", "changes"),
    [
        pytest.param(((0, 2), (1, 3)), {"rows": ROWS_ALIKE}, id="equal-token-counts"),
        pytest.param(EQUAL, {}, id="unequal-token-counts"),
        pytest.param(NO_ROWS, {}, id="a-rank-without-rows"),
        pytest.param(UNEQUAL, {"micro_batch_tokens": 9}, id="other-numbers-of-micro-batches"),
        pytest.param(
            UNEQUAL,
            {"micro_batch_tokens": 9, "options": {"sync_every_micro_batch": True}, "steps": FEW},
            id="synced-each-time",
        ),
        pytest.param(UNEQUAL, {"gradient_checkpointing": True, "steps": FEW}, id="gradient-checkpointing"),
        pytest.param(UNEQUAL, {"options": {"cpu_offload": True}, "steps": FEW}, id="cpu-offload"),
        pytest.param(
            UNEQUAL, {"options": {"reshard_after_forward": False}, "steps": FEW}, id="weights-kept-after-forward"
        ),
        pytest.param(UNEQUAL, {"lora": LORA, "micro_batch_tokens": 9, "steps": FEW}, id="lora"),
    ],
)
def test_two_ranks_train_as_one_process_does(case, kind, shares, changes):
    chosen = case(kind, shares, **changes)
    compare(chosen, one_process(chosen), on_ranks(chosen))


@pytest.mark.parametrize("kind", ["actor_critic", "moving_reference"])
@pytest.mark.parametrize("shares", [EQUAL, NO_ROWS], ids=["rows-for-all", "a-rank-without-rows"])
def test_so_do_models_of_two_heads_and_references_that_move(case, kind, shares):
    chosen = case(kind, shares, micro_batch_tokens=12, steps=FEW)
    compare(chosen, one_process(chosen), on_ranks(chosen))


@pytest.mark.parametrize("kind", ["supervised", "ppo"])
def test_two_copies_of_two_shards_do(case, kind):
    chosen = case(kind, ((0,), (1, 2), (3,), (4, 5)), options={"replicas": 2}, steps=10)
    compare(chosen, one_process(chosen), on_ranks(chosen))


def test_a_head_that_is_not_tied_to_the_embeddings_is_sharded_too(case, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(tiny_model())
    config.tie_word_embeddings = False
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    chosen = case("supervised", model=tmp_path, steps=10)
    expected = one_process(chosen)
    assert "lm_head.weight" in expected.weights
    compare(chosen, expected, on_ranks(chosen))


def test_experts_that_are_fused_in_memory_are_sharded_too(case, tmp_path):
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "initializer_range": 0.3}
    config = CONFIG_MAPPING["qwen3_moe"](vocab_size=40, num_key_value_heads=2, head_dim=8, **sizes, **experts)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    chosen = case("supervised", model=tmp_path, steps=5)
    expected = one_process(chosen)
    assert any("experts.3.down_proj" in name for name in expected.weights)
    compare(chosen, expected, on_ranks(chosen))


def test_bfloat16_is_close_to_one_process_and_closer_when_gathered_in_float32(case):
    chosen = case("supervised", dtype="bfloat16", steps=3)
    gathered = replace(chosen, options={"gather_dtype": "float32"})
    for spread in (chosen, gathered):
        compare(spread, one_process(spread), on_ranks(spread), tolerance=1e-2)
    assert distance(replace(gathered, steps=1)) < 0.7 * distance(replace(chosen, steps=1))


def distance(case: RankCase) -> float:
    """Root mean square of what the weights differ from those of one process."""
    expected, found = one_process(case).weights, on_ranks(case)[0].weights
    return (
        torch.cat([(found[name] - weight).flatten() for name, weight in expected.items()]).square().mean().sqrt().item()
    )


class TestFaultsAreFound:
    """A comparison is worth something only if it fails for backends with a fault."""

    FAULTY = f"{Path(__file__).with_name('faulty_backends.py')}"

    @pytest.mark.parametrize("kind", ["supervised", "ppo"])
    def test_denominators_of_one_rank_give_other_numbers(self, case, kind):
        chosen = case(kind, steps=3)
        expected = one_process(chosen)
        with pytest.raises(AssertionError, match="in step 0"):
            compare(chosen, expected, on_ranks(replace(chosen, backend=f"{self.FAULTY}:CountsOwnTokens")))

    @pytest.mark.parametrize(
        ("check", "fault", "said"),
        [
            (contract.two_ranks_train_as_one_process_does, "CountsOwnTokens", "supervised, rank 0 .* in step 0"),
            (contract.state_of_two_ranks_goes_on_in_one_process_and_back, "ForgetsMoments", "three steps"),
        ],
    )
    def test_by_the_contract_too(self, check, fault, said, tmp_path):
        plugin = load_plugin(PluginKind.ACTOR_BACKEND, f"{self.FAULTY}:{fault}")
        spread = replace(plugin, spec=replace(plugin.spec, many_devices=True))
        with pytest.raises(AssertionError, match=said):
            check(ContractContext(spread, tmp_path))
