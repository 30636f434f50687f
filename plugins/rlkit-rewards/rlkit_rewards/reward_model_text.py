"""Conversations in a reward model's own tokens, whatever the policy's were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlkit.data.rendering import ChatRenderer
from rlkit.errors import DataError, ModelError, RewardError
from rlkit.models.score_model import TokenRow
from rlkit.types import Sample
from rlkit_rewards.remote_options import RewardModelOptions


@dataclass(frozen=True)
class ConversationEncoder:
    """tokenizer: of the reward model. max_tokens: of one conversation."""

    tokenizer: Any
    options: RewardModelOptions
    max_tokens: int

    def check(self) -> None:
        """Raises `ModelError` when conversations are to be rendered by a template that is not there."""
        if self.options.render == "chat" and not ChatRenderer(self.tokenizer).available:
            raise ModelError(
                f"the tokenizer of reward model '{self.options.model}' has no chat template; set render to pair or text, "
                "as the model was trained, or chat_template to a Jinja file"
            )

    def encode(self, samples: Sequence[Sample]) -> list[TokenRow | RewardError]:
        """The tokens of each conversation, or why it has none."""
        return [self._encoded(sample) for sample in samples]

    def _encoded(self, sample: Sample) -> TokenRow | RewardError:
        if sample.prompt.images:
            return RewardError("reward_model: the prompt has images, and the model reads text only")
        try:
            row = self._tokens(sample)
        except DataError as error:
            return RewardError(f"reward_model: {error}")
        length = len(row.token_ids)
        if not length:
            return RewardError("reward_model: the conversation has no tokens")
        if length <= self.max_tokens:
            return row
        if self.options.too_long == "error":
            return RewardError(
                f"reward_model: the conversation has {length} of the model's tokens, and its limit is {self.max_tokens}; "
                "shorten the answers, or set too_long to cut"
            )
        types = row.type_ids
        return TokenRow(row.token_ids[-self.max_tokens :], None if types is None else types[-self.max_tokens :])

    def _tokens(self, sample: Sample) -> TokenRow:
        match self.options.render:
            case "chat":
                tools = sample.prompt.extra.get("tools") or ()
                text = ChatRenderer(self.tokenizer).render(sample.messages, tools=tools)
                # The template has written the special tokens itself.
                return TokenRow(tuple(self.tokenizer.encode(_well_formed(text), add_special_tokens=False)))
            case "pair":
                encoded = self.tokenizer(_well_formed(sample.prompt.question), _well_formed(sample.response))
                types = encoded.get("token_type_ids")
                return TokenRow(tuple(encoded["input_ids"]), None if types is None else tuple(types))
            case "text":
                ids = self.tokenizer.encode(_well_formed(sample.prompt.question + sample.response))
                end = self.tokenizer.eos_token_id
                return TokenRow(tuple(ids if end is None or ids[-1:] == [end] else [*ids, end]))


def longest_conversation(config: Any, tokenizer: Any, asked: int) -> int:
    """Tokens that the model can read: its context, unless the user asks for less. Raises `ModelError` for more."""
    limits = [getattr(config.get_text_config(), "max_position_embeddings", None), tokenizer.model_max_length]
    context = min((int(limit) for limit in limits if limit is not None and 0 < limit < 10**9), default=0)
    if asked and context and asked > context:
        raise ModelError(f"max_tokens = {asked} of the reward model is beyond its context of {context} tokens")
    if not asked and not context:
        raise ModelError("the reward model does not say how long its context is; set max_tokens")
    return asked or context


def _well_formed(text: str) -> str:
    """Lone surrogates, which a model may well produce, are refused by fast tokenizers."""
    return text.encode("utf-8", "replace").decode("utf-8")
