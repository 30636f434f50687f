"""An LLM as judge, through any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

from rlkit.errors import RewardError
from rlkit.types import Reward, Sample
from rlkit_rewards.http_endpoint import Endpoint, judge_all
from rlkit_rewards.judge_prompt import judge_prompt
from rlkit_rewards.judge_verdict import VerdictReader, majority, mean, shown
from rlkit_rewards.remote_options import JudgeOptions


class Judge:
    """Score as the judge's verdict says; with several votes also how many of them agree with the most frequent one."""

    runs_in: Literal["async"] = "async"
    judges_apart = True

    def __init__(self, options: JudgeOptions) -> None:
        """Raises `ConfigError` for a key that is not set or a template that cannot be used."""
        self._options = options
        self.answer_timeout_s = options.request_timeout_s
        self._template = options.template_text()
        self._reader = VerdictReader(options)
        self._endpoint = Endpoint(options, name="judge", path="/chat/completions")

    async def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        return await judge_all(self._judge, samples)

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    async def _judge(self, sample: Sample) -> Reward:
        prompt = judge_prompt(
            sample, template=self._template, rubric=self._options.rubric, verdict=self._reader.instruction()
        )
        scores = list(await asyncio.gather(*(self._vote(prompt, vote) for vote in range(self._options.votes))))
        if len(scores) == 1:
            return Reward(scores[0])
        most = majority(scores)
        score = most if self._options.combine == "majority" else mean(scores)
        return Reward(score, {"agreement": scores.count(most) / len(scores)})

    async def _vote(self, prompt: str, number: int) -> float:
        options = self._options
        system = [{"role": "system", "content": options.system}] if options.system else []
        reply = await self._endpoint.post(
            {
                **options.body,
                "model": options.model,
                "messages": [*system, {"role": "user", "content": prompt}],
                "temperature": options.temperature,
                "max_tokens": options.max_tokens,
                "seed": options.seed + number,
            }
        )
        return self._reader.read(self._text(reply))

    def _text(self, reply: object) -> str:
        """What the judge wrote. Raises `RewardError` for a reply of another form, or one that was cut."""
        choice = _first_choice(reply)
        message = choice.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        if choice.get("finish_reason") == "length":
            raise RewardError(
                f"judge: the reply was cut at max_tokens = {self._options.max_tokens}, maybe in its verdict; raise it: "
                f"{shown(content) if isinstance(content, str) else '(nothing written)'}"
            )
        if not isinstance(content, str):
            raise RewardError(f"judge: the reply has no text: {shown(repr(reply))}")
        return content


def _first_choice(reply: object) -> dict[str, Any]:
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise RewardError(f"judge: the reply is no chat completion: {shown(repr(reply))}")
    return choices[0]
