"""Conversations of several turns: the policy speaks, tools or an environment answer, until one of them ends it.

    open      first prompts: as given, or as the environment opens them
    ask       all conversations that are still live go to the engine together          tokens in, tokens out
    reply     calls are run, environments step                                         in threads
    go on     the reply's tokens go behind the turn, with the mask off                 or the conversation is over

A turn's prompt is exactly the tokens seen so far. What was sampled is decoded for tools, environments and rewards, and
never encoded again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rlkit.data.turns import TurnRenderer
from rlkit.errors import DataError, RolloutError
from rlkit.protocols import RolloutEngine
from rlkit.rollout.collector import collect_rollouts, step_seed
from rlkit.rollout.environments import EnvironmentMaker
from rlkit.rollout.foreign_calls import ForeignCalls
from rlkit.rollout.replies import Reply, Said, read_turn, reply_to, result_messages
from rlkit.rollout.running import RunningConversation, SampledTurn, sampled_turns, to_rollouts
from rlkit.rollout.tool_calls import ToolCallFormat
from rlkit.rollout.tools import Toolbox, shortened
from rlkit.types import Prompt, PromptBatch, Rollouts, SamplingParams
from rlkit.types.prompts import Message

LOGGER = logging.getLogger("rlkit")


@dataclass(frozen=True)
class ConversationLimits:
    """All tokens of a conversation behind its first prompt are limited by `SamplingParams.max_tokens`.

    turns          of the policy
    turn_tokens    of one turn; a turn that is cut there is answered as it is. 0: no limit of its own
    tool_tokens    of one tool result; of a longer one only the beginning is shown
    prompt_tokens  of the first prompt that an environment opens with; prompt_key is its config key, for messages
    context        prompt and `max_tokens` of one request to the engine, together
    """

    turns: int
    turn_tokens: int
    tool_tokens: int
    prompt_tokens: int
    context: int
    prompt_key: str = "data.max_prompt_tokens"


@dataclass(frozen=True, eq=False)
class ConversationCollector:
    """Implements `rlkit.rollout.collector.Collector`: one row of `Rollouts` for each conversation.

    toolbox, environment  whom the policy talks with: one of them, or both (calls go to the tools, the rest to the
                          environment)
    lone_results          the chat template takes a tool's result behind a turn without a call
    """

    renderer: TurnRenderer
    limits: ConversationLimits
    calls: ForeignCalls
    toolbox: Toolbox | None = None
    call_format: ToolCallFormat | None = None
    environment: EnvironmentMaker | None = None
    lone_results: bool = True

    def __call__(self, engine: RolloutEngine, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        """`sampling.samples` conversations for each prompt, to their ends; `sampling.max_tokens` limits all of a row.

        Each conversation samples by a seed of its own, which depends on `sampling.seed`, the prompt's row_id, the number
        of the sample and the turn, not on what else is in the batch. Raises `RolloutError` when an environment fails.
        """
        conversations: list[RunningConversation] = []
        try:
            self._open(conversations, prompts, sampling)
            live, turn = conversations, 0
            while live:
                self._take_turn(live, self._ask(engine, prompts, live, sampling, turn), turn)
                live = [conversation for conversation in live if conversation.end is None]
                turn += 1
        finally:
            self._close(conversations)
        return to_rollouts(conversations, with_rewards=self.environment is not None)

    def _open(self, conversations: list[RunningConversation], prompts: PromptBatch, sampling: SamplingParams) -> None:
        for group, (prompt, token_ids) in enumerate(zip(prompts.prompts, prompts.token_ids, strict=True)):
            for sample in range(sampling.samples):
                key = prompt.row_id * sampling.samples + sample
                conversations.append(
                    RunningConversation(group, key, prompt, sampling.max_tokens, _messages_of(prompt), list(token_ids))
                )
        if self.environment is None:
            return
        for conversation in conversations:
            conversation.environment = self.environment.open(conversation.prompt)
        openings = self.calls.for_each(_reset, conversations)
        for conversation, messages in zip(conversations, openings, strict=True):
            conversation.opening = tuple(map(self.renderer.shown, messages))
            conversation.prompt_ids = self._opening_ids(conversation)

    def _opening_ids(self, conversation: RunningConversation) -> list[int]:
        row = conversation.prompt.row_id
        try:
            ids = self.renderer.opening(conversation.opening)
        except DataError as error:
            raise RolloutError(f"the environment's opening of row {row}: {error}") from error
        if len(ids) > self.limits.prompt_tokens:
            raise RolloutError(
                f"the environment opens row {row} with {len(ids)} tokens, but {self.limits.prompt_key} is "
                f"{self.limits.prompt_tokens}; raise it"
            )
        return ids

    def _ask(
        self,
        engine: RolloutEngine,
        prompts: PromptBatch,
        live: Sequence[RunningConversation],
        sampling: SamplingParams,
        turn: int,
    ) -> list[SampledTurn]:
        """The next turn of each conversation in `live`, in order."""
        if turn == 0 and self.environment is None:
            # All samples of a prompt begin alike: engines share the prompt's computation among them.
            first = replace(sampling, max_tokens=live[0].allowance(self.limits.turn_tokens))
            named = replace(prompts, conversations=tuple(f"row {prompt.row_id}" for prompt in prompts.prompts))
            return sampled_turns(collect_rollouts(engine, named, first))
        seeded = replace(sampling, samples=1, seed=step_seed(sampling.seed, turn) if turn else sampling.seed)
        found: dict[int, SampledTurn] = {}
        for max_tokens, rows in self._requests(live):
            # Samples of one prompt must not repeat each other: engines draw by row_id.
            asked = PromptBatch(
                tuple(replace(live[row].prompt, row_id=live[row].key) for row in rows),
                tuple(tuple(live[row].token_ids) for row in rows),
                tuple(self._place(live[row]) for row in rows),
            )
            answers = collect_rollouts(engine, asked, replace(seeded, max_tokens=max_tokens))
            found |= dict(zip(rows, sampled_turns(answers), strict=True))
        return [found[row] for row in range(len(live))]

    def _place(self, conversation: RunningConversation) -> str:
        """Names what is to be asked of one replica: that which has the conversation's beginning in its cache.

        Without an environment it is the one with which all samples of the prompt began.
        """
        if self.environment is None:
            return f"row {conversation.prompt.row_id}"
        return f"conversation {conversation.key}"

    def _requests(self, live: Sequence[RunningConversation]) -> Iterator[tuple[int, list[int]]]:
        """max_tokens, and the rows of `live` that are asked with it.

        The engine takes one limit for a request: the largest allowance, as long as it fits each row's context. What it
        samples beyond a row's own allowance is cut off, which is what a lower limit would have given.
        """
        allowances = [conversation.allowance(self.limits.turn_tokens) for conversation in live]
        rest = sorted(range(len(live)), key=lambda row: -allowances[row])
        while rest:
            limit = allowances[rest[0]]
            fits = [row for row in rest if row == rest[0] or live[row].num_tokens + limit <= self.limits.context]
            yield limit, sorted(fits)
            rest = [row for row in rest if row not in set(fits)]

    def _take_turn(self, live: Sequence[RunningConversation], turns: Sequence[SampledTurn], number: int) -> None:
        """Add each conversation's turn and what it is answered with."""
        waiting: list[tuple[RunningConversation, Said]] = []
        for conversation, turn in zip(live, turns, strict=True):
            sampled = conversation.take(turn, self.limits.turn_tokens)
            said = read_turn(
                self.renderer.tokenizer,
                sampled.token_ids,
                self.call_format,
                first_call=conversation.tool_calls,
                ended=sampled.finish_reason == "stop",
            )
            conversation.say(said)
            if conversation.end is None:
                waiting.append((conversation, said))
        is_last = number + 1 >= self.limits.turns

        def answer(item: tuple[RunningConversation, Said]) -> Reply:
            return reply_to(item[1], self.toolbox, item[0].environment, is_last_turn=is_last)

        for (conversation, said), reply in zip(waiting, self.calls.for_each(answer, waiting), strict=True):
            conversation.turn_rewards[-1] = reply.reward
            conversation.end = reply.end
            if reply.end is None:
                self._go_on(conversation, said, reply)

    def _go_on(self, conversation: RunningConversation, said: Said, reply: Reply) -> None:
        """Put the reply behind the turn, or end the conversation when there is no room left to answer it."""
        new = reply.messages
        if reply.results:
            results = [shortened(result, self.renderer.tokenizer, self.limits.tool_tokens) for result in reply.results]
            readable = (result for call, result in zip(said.calls, results, strict=True) if call.call_id)
            conversation.tool_errors += sum(result.is_error for result in readable)
            conversation.cut_results += sum(result.is_cut for result in results)
            new = result_messages(said.calls, results, lone_results=self.lone_results)
        shown = tuple(map(self.renderer.shown, new))
        before, sampled = conversation.messages[:-1], conversation.turn_ids
        try:
            ids = self.renderer.between(before, said.message, sampled, shown)
        except DataError as error:
            raise RolloutError(f"the conversation of row {conversation.prompt.row_id} cannot go on: {error}") from error
        conversation.hear(shown, ids)

    def _close(self, conversations: Sequence[RunningConversation]) -> None:
        for conversation in conversations:
            if conversation.environment is None:
                continue
            try:
                conversation.environment.close()
            except RolloutError as error:
                # The conversation is over and whole: what is wrong now costs memory at most.
                LOGGER.warning("%s", error)


def _messages_of(prompt: Prompt) -> tuple[Message, ...]:
    return prompt.messages or ({"role": "user", "content": prompt.text or ""},)


def _reset(conversation: RunningConversation) -> tuple[Message, ...]:
    assert conversation.environment is not None
    return conversation.environment.reset()
