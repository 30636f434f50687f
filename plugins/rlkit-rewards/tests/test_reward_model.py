"""The reward model in this process: what it reads, and what its number becomes."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rlkit_rewards.remote_options import RewardModelOptions
from rlkit_rewards.reward_model import RewardModel, sigmoid

from rlkit.config.errors import validate_section
from rlkit.errors import ConfigError, MissingRequirementError, ModelError
from rlkit.models.tokenizer_making import make_tokenizer
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.testing import ContractCheck, ContractContext, contract_checks
from rlkit.types import Conversation, Prompt, Reward, Sample

CONTEXT = 128
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Function: a folder with a small random classifier and a byte-level tokenizer."""

    def build(name: str = "scorer", model_type: str = "qwen3", **changes: Any) -> Path:
        from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

        tokenizer = make_tokenizer("byte", context_length=CONTEXT)
        sizes = {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": CONTEXT,
            **({} if "id2label" in changes else {"num_labels": 1}),
            "pad_token_id": tokenizer.pad_token_id,
        }
        if model_type == "qwen3":
            sizes |= {"num_key_value_heads": 2, "head_dim": 8}
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(CONFIG_MAPPING[model_type](**{**sizes, **changes}))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        folder = tmp_path / name
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return build


def sample(response: str, question: str = "2+2=", **changes: Any) -> Sample:
    return Sample(Prompt(0, messages=({"role": "user", "content": question},), **changes), response)


SAMPLES = [sample(response) for response in ("4", "four, as everybody knows", "", "5" * 40, "4")]


def judge(folder: Path, samples: list[Sample], **options: Any) -> list[Reward]:
    reward = RewardModel(RewardModelOptions(model=str(folder), **options))
    try:
        return reward(samples)
    finally:
        reward.close()


def reference(folder: Path, texts: list[str], **encoding: Any) -> list[list[float]]:
    """By transformers alone: one text at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        rows = [tokenizer(text, return_tensors="pt", add_special_tokens=False, **encoding) for text in texts]
        return [model(input_ids=row["input_ids"]).logits[0].tolist() for row in rows]


def rendered(answer: str) -> str:
    return f"<|user|>2+2=<|end|><|assistant|>{answer}<|end|>"


@pytest.mark.parametrize(("batch_tokens", "offload"), [(8192, False), (64, True), (1, False)])
def test_the_score_is_that_of_transformers_on_the_models_own_template(
    make: Make, batch_tokens: int, offload: bool
) -> None:
    folder = make()
    expected = reference(folder, [rendered(each.response) for each in SAMPLES])
    rewards = judge(folder, SAMPLES, batch_tokens=batch_tokens, offload=offload)
    assert [reward.score for reward in rewards] == pytest.approx([row[0] for row in expected], abs=1e-5)
    assert all(reward.parts == {} and reward.error is None for reward in rewards)


def test_several_turns_are_read_as_they_were_said(make: Make) -> None:
    folder = make()
    said = (
        {"role": "assistant", "content": "3"},
        {"role": "user", "content": "no"},
        {"role": "assistant", "content": "4"},
    )
    prompt = Prompt(0, messages=({"role": "user", "content": "2+2="},))
    conversation = Conversation(prompt.messages, said, "answer")
    ((expected,),) = reference(
        folder, ["<|user|>2+2=<|end|><|assistant|>3<|end|><|user|>no<|end|><|assistant|>4<|end|>"]
    )
    (reward,) = judge(folder, [Sample(prompt, "4", conversation=conversation)])
    assert reward.score == pytest.approx(expected, abs=1e-5)


def test_another_template_may_replace_the_models_own(make: Make, tmp_path: Path) -> None:
    folder = make()
    template = tmp_path / "plain.jinja"
    template.write_text("{%- for message in messages -%}[{{ message['content'] }}]{%- endfor -%}")
    ((expected,),) = reference(folder, ["[2+2=][4]"])
    (reward,) = judge(folder, SAMPLES[:1], chat_template=str(template))
    assert reward.score == pytest.approx(expected, abs=1e-5)


def test_a_plain_text_ends_with_the_end_token_as_in_preference_data(make: Make) -> None:
    folder = make()
    ((expected,),) = reference(folder, ["2+2=4<|end|>"])
    (reward,) = judge(folder, [Sample(Prompt(0, text="2+2="), "4")], render="text")
    assert reward.score == pytest.approx(expected, abs=1e-5)


def test_a_pair_has_the_tokenizers_own_marks_and_types(make: Make) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = make("pairs", "bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    end = tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <|end|>", pair="$A <|end|> $B:1 <|end|>:1", special_tokens=[("<|end|>", end)]
    )
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["model_input_names"] = tokenizer.model_input_names
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = [model(**tokenizer("2+2=", each.response, return_tensors="pt")).logits.item() for each in SAMPLES]
    rewards = judge(folder, SAMPLES, render="pair")
    assert [reward.score for reward in rewards] == pytest.approx(expected, abs=1e-5)


def test_numbers_are_centred_scaled_and_squashed_and_the_models_own_is_a_part(make: Make) -> None:
    folder = make()
    ((logit,),) = reference(folder, [rendered("4")])
    (scaled,) = judge(folder, SAMPLES[:1], mean=0.5, std=2.0)
    (squashed,) = judge(folder, SAMPLES[:1], mean=0.5, std=2.0, squash="sigmoid")
    assert scaled.score == pytest.approx((logit - 0.5) / 2, abs=1e-5)
    assert squashed.score == pytest.approx(1 / (1 + math.exp(-(logit - 0.5) / 2)), abs=1e-5)
    assert squashed.parts == {"logit": pytest.approx(logit, abs=1e-5)}


def test_one_label_of_several_is_chosen_by_name_or_position(make: Make) -> None:
    folder = make(id2label={0: "bad", 1: "fair", 2: "good"}, label2id={"bad": 0, "fair": 1, "good": 2})
    (logits,) = reference(folder, [rendered("4")])
    for label in ("good", "2"):
        (reward,) = judge(folder, SAMPLES[:1], label=label)
        assert reward.score == pytest.approx(logits[2], abs=1e-5)
    (reward,) = judge(folder, SAMPLES[:1], label="good", squash="softmax")
    assert reward.score == pytest.approx(float(torch.tensor(logits).softmax(0)[2]), abs=1e-5)


@pytest.mark.parametrize(
    ("label", "told"), [("", "set label to the one whose number"), ("best", "label = 'best'"), ("3", "label = '3'")]
)
def test_a_label_that_is_not_there_is_refused_with_those_that_are(make: Make, label: str, told: str) -> None:
    folder = make(id2label={0: "bad", 1: "fair", 2: "good"}, label2id={"bad": 0, "fair": 1, "good": 2})
    with pytest.raises(ConfigError, match="the model has the labels bad, fair, good") as caught:
        RewardModel(RewardModelOptions(model=str(folder), label=label))
    assert told in str(caught.value)


def test_a_conversation_beyond_the_context_has_an_error_and_leaves_the_others_alone(make: Make) -> None:
    folder = make()
    first, too_long, last = judge(folder, [sample("4"), sample("4" * 200), sample("5")])
    assert too_long.error == (
        "reward_model: the conversation has 208 of the model's tokens, and its limit is 128; shorten the answers, or set "
        "too_long to cut"
    )
    expected = reference(folder, [rendered("4"), rendered("5")])
    assert [first.score, last.score] == pytest.approx([row[0] for row in expected], abs=1e-5)


def test_cutting_keeps_the_end(make: Make) -> None:
    folder = make()
    ((expected,),) = reference(folder, ["4" * 9 + "<|end|>"])
    (reward,) = judge(folder, [sample("4" * 200)], too_long="cut", max_tokens=10)
    assert reward.score == pytest.approx(expected, abs=1e-5)


def test_what_the_template_refuses_and_images_have_errors(make: Make) -> None:
    folder = make()
    refused = Sample(Prompt(0, messages=({"role": "critic", "content": "x"},)), "4")
    seen = sample("4", images=(b"png",))
    told = [reward.error for reward in judge(folder, [refused, seen])]
    assert "the chat template refuses the conversation: role must be system, user or assistant" in str(told[0])
    assert told[1] == "reward_model: the prompt has images, and the model reads text only"


def test_a_number_that_is_not_finite_is_an_error(make: Make) -> None:
    from safetensors.torch import load_file, save_file

    folder = make()
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (reward,) = judge(folder, SAMPLES[:1])
    assert reward.error == "reward_model: the model's number is nan"


def test_a_model_without_a_template_needs_another_way_to_be_asked(make: Make) -> None:
    folder = make()
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template; set render to pair or text"):
        RewardModel(RewardModelOptions(model=str(folder)))
    RewardModel(RewardModelOptions(model=str(folder), render="pair"))


def test_more_tokens_than_the_context_are_refused(make: Make) -> None:
    with pytest.raises(ModelError, match="max_tokens = 129 of the reward model is beyond its context of 128 tokens"):
        RewardModel(RewardModelOptions(model=str(make()), max_tokens=129))


def test_a_folder_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        RewardModel(RewardModelOptions(model=str(tmp_path / "none")))


def test_replicas_without_ray_are_refused_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, found = make(), importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else found(name, *rest))
    with pytest.raises(MissingRequirementError, match="replicas of a reward model need Ray"):
        RewardModel(RewardModelOptions(model=str(folder), replicas=2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(make: Make) -> None:
    with pytest.raises(ConfigError, match="device = cuda, but torch finds no GPU here"):
        judge(make(), SAMPLES, device="cuda")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "reward_model.model is required"),
        ({"model": "x", "std": 0}, "reward_model.std"),
        ({"model": "x", "squash": "softmax", "mean": 1.0}, "squash = softmax gives a probability"),
        ({"model": "x", "render": "pair", "chat_template": "y"}, "chat_template is not read with render = pair"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_section(RewardModelOptions, options, where="reward.options.reward_model")
    assert told in str(caught.value)


def test_the_squashing_bears_numbers_of_any_size() -> None:
    assert [sigmoid(value) for value in (-1e9, -1.0, 0.0, 1e9)] == [0.0, pytest.approx(0.2689414), 0.5, 1.0]


@pytest.mark.parametrize("check", contract_checks(PluginKind.REWARD_FUNCTION), ids=lambda check: check.name)
def test_contract(make: Make, check: ContractCheck, tmp_path: Path) -> None:
    options = {"model": str(make()), "too_long": "cut"}
    plugin = load_plugin(PluginKind.REWARD_FUNCTION, "reward_model")
    check(ContractContext(plugin=plugin, tmp_path=tmp_path, options=options))
