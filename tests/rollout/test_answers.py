from __future__ import annotations

import json
import math

import pytest
import torch

from rlkit.errors import ModelError
from rlkit.rollout.answers import check_prompt, end_token_ids, lay_out, sample_numbers
from rlkit.rollout.engine_model import EngineModel
from rlkit.types import Prompt, PromptBatch


class Tokenizer:
    eos_token_id = 3


@pytest.fixture
def model(tmp_path):
    """Function: a model with these contents of config.json and generation_config.json."""

    def make(config, generation=None):
        (tmp_path / "config.json").write_text(json.dumps(config))
        if generation is not None:
            (tmp_path / "generation_config.json").write_text(generation)
        return EngineModel(tmp_path, None, Tokenizer(), "float32", "cpu", False, 0)

    return make


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        ({}, None, (3,)),
        ({"eos_token_id": 5}, None, (3, 5)),
        ({"text_config": {"eos_token_id": 6}}, None, (3, 6)),
        ({"eos_token_id": 5}, '{"eos_token_id": [7, 3]}', (3, 7)),
        ({"eos_token_id": 5}, "{}", (3, 5)),
        ({"eos_token_id": None}, None, (3,)),
        ({"eos_token_id": 0}, None, (0, 3)),
    ],
)
def test_every_declared_end_token_counts(model, config, generation, expected):
    assert end_token_ids(model(config, generation)) == expected


def test_a_damaged_generation_config_is_named(model):
    with pytest.raises(ModelError, match=r"generation_config\.json' is not valid JSON"):
        end_token_ids(model({}, "{"))


def test_prompts_that_cannot_be_answered_are_refused():
    check_prompt([1] * 6, 2, context_length=8, name="the prompt of row 4")
    with pytest.raises(ModelError, match=r"the prompt of row 4 has 7 tokens; with 2 tokens of answer .* context of 8"):
        check_prompt([1] * 7, 2, context_length=8, name="the prompt of row 4")
    with pytest.raises(ModelError, match="the prompt of row 4 has no tokens"):
        check_prompt([], 2, context_length=8, name="the prompt of row 4")


def batch(*row_ids):
    return PromptBatch(tuple(Prompt(row_id=row) for row in row_ids), tuple((row, row + 1) for row in row_ids))


def test_a_row_asked_again_goes_on_counting():
    assert sample_numbers(batch(7, 8, 7), 2) == [[0, 1], [0, 1], [2, 3]]


def test_answers_are_laid_out_by_prompt():
    prompts = batch(5, 2)
    rollouts = lay_out(
        prompts, 2, [[1], [1, 2], [3], [4, 5, 6]], [[-1.0], [-1.0, -2.0], [-3.0], [-4.0, -5.0, -6.0]],
        ["stop", "length", "stop", "length"], policy_version=9,
    )  # fmt: skip
    assert [row.tolist() for row in rollouts.prompt_ids.rows()] == [[5, 6], [5, 6], [2, 3], [2, 3]]
    assert [row.tolist() for row in rollouts.response_ids.rows()] == [[1], [1, 2], [3], [4, 5, 6]]
    assert rollouts.response_ids.values.dtype == torch.int64
    assert rollouts.rollout_log_probs.values.tolist() == [-1, -1, -2, -3, -4, -5, -6]
    assert rollouts.rollout_log_probs.values.dtype == torch.float32
    assert rollouts.response_mask.values.all()
    assert rollouts.group_ids.tolist() == [0, 0, 1, 1]
    assert rollouts.finish_reasons == ("stop", "length", "stop", "length")
    assert rollouts.policy_version == 9
    assert [prompt.row_id for prompt in rollouts.prompts] == [5, 5, 2, 2]


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_log_probs_that_are_not_finite_are_an_error(value):
    with pytest.raises(ModelError, match=r"non-finite logits \(weights of version 4\)"):
        lay_out(batch(1), 1, [[1]], [[value]], ["stop"], policy_version=4)
