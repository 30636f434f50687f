from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlkit.data.chat import encode_conversation, encode_prompts
from rlkit.errors import DataError
from rlkit.types import Prompt

Make = Callable[..., Any]

USER = {"role": "user", "content": "What is 1 + 1?"}


def test_messages_are_rendered_with_the_generation_prompt(make_tokenizer: Make, templates: dict[str, str]) -> None:
    tokenizer = make_tokenizer(templates["chatml"])
    encoded = encode_prompts([Prompt(0, messages=(USER,))], tokenizer, max_tokens=100, overlong="refuse")
    text = tokenizer.decode(encoded.batch.token_ids[0])
    assert text == "<|im_start|>user\nWhat is 1 + 1?<|im_end|>\n<|im_start|>assistant\n"
    assert (encoded.dropped, encoded.longest) == (0, len(encoded.batch.token_ids[0]))


def test_plain_text_becomes_a_user_message_where_there_is_a_template(
    make_tokenizer: Make, templates: dict[str, str]
) -> None:
    tokenizer = make_tokenizer(templates["chatml"])
    prompts = [Prompt(0, text=USER["content"], reference="2"), Prompt(1, messages=(USER,))]
    batch = encode_prompts(prompts, tokenizer, max_tokens=100, overlong="refuse").batch
    assert batch.token_ids[0] == batch.token_ids[1]
    assert batch.prompts[0] == Prompt(0, messages=(USER,), reference="2")


def test_plain_text_stays_as_it_is_where_there_is_none(make_tokenizer: Make) -> None:
    tokenizer = make_tokenizer(None)
    batch = encode_prompts([Prompt(0, text="The sky is")], tokenizer, max_tokens=100, overlong="refuse").batch
    assert tokenizer.decode(batch.token_ids[0]) == "The sky is"
    assert batch.prompts[0].text == "The sky is"
    with pytest.raises(DataError, match="no chat template"):
        encode_prompts([Prompt(0, messages=(USER,))], tokenizer, max_tokens=100, overlong="refuse")


def test_plain_text_gets_a_beginning_but_no_end_of_sequence(make_tokenizer: Make) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer(None)
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin_of_text|> $A <|im_end|>",
        special_tokens=[("<|begin_of_text|>", ids[0]), ("<|im_end|>", ids[1])],
    )
    batch = encode_prompts([Prompt(0, text="The sky")], tokenizer, max_tokens=100, overlong="refuse").batch
    assert batch.token_ids[0] == (ids[0], *tokenizer.encode("The sky", add_special_tokens=False))


def test_overlong_prompts_are_refused_with_numbers_or_dropped_and_counted(
    make_tokenizer: Make, templates: dict[str, str]
) -> None:
    tokenizer = make_tokenizer(templates["chatml"])
    prompts = [Prompt(row, text="word " * (20 if row == 1 else 1)) for row in range(3)]
    longest = encode_prompts(prompts, tokenizer, max_tokens=1000, overlong="refuse").longest
    with pytest.raises(DataError) as caught:
        encode_prompts(prompts, tokenizer, max_tokens=20, overlong="refuse", section="generation")
    assert str(caught.value) == (
        f"1 of 3 prompts are longer than generation.max_prompt_tokens = 20 (longest: {longest} tokens); "
        f'raise generation.max_prompt_tokens to {longest} or set generation.overlong_prompts = "drop"'
    )
    kept = encode_prompts(prompts, tokenizer, max_tokens=20, overlong="drop")
    assert [prompt.row_id for prompt in kept.batch.prompts] == [0, 2]
    assert (kept.dropped, kept.longest) == (1, longest)
    assert all(len(ids) <= 20 for ids in kept.batch.token_ids)
    with pytest.raises(DataError, match=r"3 of 3 prompts.*no prompt is left"):
        encode_prompts(prompts, tokenizer, max_tokens=2, overlong="drop")


def test_a_prompt_that_the_template_refuses_is_named(make_tokenizer: Make, templates: dict[str, str]) -> None:
    tokenizer = make_tokenizer(templates["llama2"])
    with pytest.raises(DataError, match=r"^prompt 7 .*only user and assistant roles"):
        encode_prompts([Prompt(7, messages=({"role": "x", "content": "y"},))], tokenizer, max_tokens=9, overlong="drop")


@pytest.mark.parametrize("name", ["chatml", "chatml_marked", "llama3", "llama2", "thinking"])
def test_a_conversation_opens_with_exactly_the_tokens_of_its_prompt(
    make_tokenizer: Make, templates: dict[str, str], name: str
) -> None:
    """What is learned follows the very tokens that the model will be given when it is asked."""
    tokenizer = make_tokenizer(templates[name])
    for answer in ("It is 2.", "\n\nIt is 2.", " 2"):
        ids, mask = encode_conversation([USER, {"role": "assistant", "content": answer}], tokenizer)
        prompt = encode_prompts([Prompt(0, messages=(USER,))], tokenizer, max_tokens=100, overlong="refuse")
        opening = list(prompt.batch.token_ids[0])
        assert ids[: len(opening)] == opening
        assert mask[: len(opening)] == [False] * len(opening)
        assert mask[len(opening)]


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=6), marked=st.booleans())
def test_decoded_loss_tokens_are_what_the_assistant_says(
    make_tokenizer: Make, templates: dict[str, str], texts: list[str], marked: bool
) -> None:
    tokenizer = make_tokenizer(templates["chatml_marked" if marked else "chatml"])
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    ids, mask = encode_conversation(messages, tokenizer)
    learned = [token for token, inside in zip(ids, mask, strict=True) if inside]
    assert tokenizer.decode(learned) == "".join(text + "<|im_end|>" for text in texts[1::2])
    assert tokenizer.decode(ids) == tokenizer.apply_chat_template(messages, tokenize=False)


def test_transformers_own_mask_agrees_where_no_token_crosses_a_border(
    make_tokenizer: Make, templates: dict[str, str]
) -> None:
    tokenizer = make_tokenizer(templates["chatml_marked"])
    messages = [USER, {"role": "assistant", "content": "It is 2."}, USER, {"role": "assistant", "content": "Still 2."}]
    theirs = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    ids, mask = encode_conversation(messages, tokenizer)
    assert ids == theirs["input_ids"]
    assert mask == [bool(flag) for flag in theirs["assistant_masks"]]


def test_a_sentencepiece_like_tokenizer_learns_answer_and_end(make_tokenizer: Make, templates: dict[str, str]) -> None:
    tokenizer = make_tokenizer(templates["llama2"], kind="sentencepiece")
    messages = [
        USER,
        {"role": "assistant", "content": "I am fine"},
        USER,
        {"role": "assistant", "content": "thank you"},
    ]
    ids, mask = encode_conversation(messages, tokenizer)
    learned = [token for token, inside in zip(ids, mask, strict=True) if inside]
    assert tokenizer.decode(learned) == "I am fine</s> thank you</s>"
    assert ids == tokenizer.apply_chat_template(messages)["input_ids"]
