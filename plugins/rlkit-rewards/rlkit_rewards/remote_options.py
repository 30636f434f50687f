"""Options of the rewards that ask somebody else: an HTTP endpoint, an LLM judge, a reward model."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from rlkit.config import InputPath, PluginOptions
from rlkit.config.base import fault_in_section
from rlkit.errors import ConfigError
from rlkit.types import HeldModel

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]

SampleField = Literal["prompt", "messages", "response", "reference", "data_source", "extra"]
SAMPLE_FIELDS: tuple[SampleField, ...] = ("prompt", "messages", "response", "reference", "data_source", "extra")

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")
PLACEHOLDERS = ("question", "response", "reference", "rubric", "verdict")


UNSENDABLE = "which holds a line break, a space or a character that is not ASCII; export the key alone"


class EndpointOptions(PluginOptions):
    """What every endpoint has."""

    url: str
    """Where to ask: an http or https address, without a key in it."""
    api_key_env: str = ""
    """Name of the environment variable with the key, sent as `Authorization: Bearer`; empty sends none. The key itself is written nowhere."""
    request_timeout_s: PositiveFloat = 25.0
    """Seconds for one request, from connecting to the last byte; then it is tried again. Has to be below `reward.timeout_s`, the limit for everything that one answer takes."""
    max_concurrency: NonNegativeInt = 0
    """Requests to this endpoint in progress at once, where it bears fewer than there are answers judged at once; waiting for a turn counts towards `reward.timeout_s`. 0: no limit of its own."""

    @model_validator(mode="after")
    def _endpoint_is_sound(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise fault_in_section(
                f"url = {without_secrets(self.url)!r} is no address; give one such as http://127.0.0.1:8000/v1"
            )
        if parts.username or parts.password:
            raise fault_in_section(
                f"url, an address of {parts.hostname}, holds a user or a password, which run.json would show; "
                "put the key into an environment variable and name it in api_key_env"
            )
        # A key that was pasted here must not appear in the message.
        if self.api_key_env and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env):
            raise fault_in_section(
                "api_key_env is not the name of an environment variable; give the name, never the key"
            )
        return self

    def api_key(self, where: str) -> str:
        """The key, or nothing. Raises `ConfigError` when the variable is not set, or holds what no header can; `where` is the
        path of these options.
        """
        if not self.api_key_env:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise ConfigError(
                f"{where}.api_key_env names {self.api_key_env}, which is not set; export it, or leave it empty"
            )
        if not is_sendable(key):
            raise ConfigError(f"{where}.api_key_env names {self.api_key_env}, {UNSENDABLE}")
        return key


class HTTPOptions(EndpointOptions):
    """Which endpoint, and what it is sent."""

    batch_size: PositiveInt = 1
    """Answers in one request: 1 posts the object of one answer; more post `{"samples": [...]}` with up to this many, those that are judged at about the same time."""
    send: tuple[SampleField, ...] = SAMPLE_FIELDS
    """Fields of the object that is posted for each answer, `response` at least; leave out what the endpoint must not see."""

    @model_validator(mode="after")
    def _sends_the_answer(self) -> HTTPOptions:
        if "response" not in self.send:
            raise fault_in_section(f"send = {list(self.send)} leaves out 'response', which is what is judged; add it")
        return self


class JudgeOptions(EndpointOptions):
    """Which model judges, what it is told, and how its verdict is read."""

    model: str
    """Name of the judging model, as the endpoint calls it (`rlkit serve` lists it under /v1/models)."""
    template: str = ""
    """The request, with {question}, {response}, {reference}, {rubric} and {verdict} (how to write the verdict); {{ and }} are braces. Empty takes rlkit's own."""
    template_file: InputPath = ""
    """Path of a file with the template, in place of `template`."""
    rubric: str = ""
    """What makes an answer good, put where the template says {rubric}."""
    system: str = ""
    """System message; empty sends none."""
    verdict: Literal["number", "words", "json"] = "number"
    """number: `VERDICT: 7`, scaled from `range`; words: `VERDICT: CORRECT`, scored by `words`; json: an object with the key `json_key`, a number or a word."""
    range: tuple[float, float] = (1.0, 10.0)
    """Lowest and highest number; they become 0 and 1."""
    words: dict[str, float] = Field(default_factory=lambda: {"CORRECT": 1.0, "INCORRECT": 0.0})
    """Verdicts by name and their scores; upper and lower case are the same."""
    json_key: str = "score"
    """Key of the verdict in the judge's JSON object."""
    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    """0 asks for the likeliest reply, so that the same answer gets the same verdict."""
    votes: PositiveInt = 1
    """Verdicts on each answer, each with a seed of its own; more than one need a temperature."""
    combine: Literal["mean", "majority"] = "mean"
    """What several votes become: their mean, or the score that most of them gave (of two as frequent the lower)."""
    max_tokens: PositiveInt = 512
    """Tokens of a reply; one that is cut there is an error, for its verdict may be cut too."""
    seed: NonNegativeInt = 0
    """Seed of the first vote; the next have the numbers behind it."""
    body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request, for what an endpoint needs of its own (such as chat_template_kwargs)."""

    @model_validator(mode="after")
    def _verdicts_are_sound(self) -> JudgeOptions:
        if self.range[0] >= self.range[1]:
            raise fault_in_section(
                f"range = {list(self.range)}: give the lowest and the highest number, such as [1, 10]"
            )
        folded = {word.strip().casefold() for word in self.words}
        if len(folded) < max(len(self.words), 2) or "" in folded:
            raise fault_in_section(f"words = {self.words}: give at least two different words, each with its score")
        if self.votes > 1 and self.temperature == 0:
            raise fault_in_section(
                f"votes = {self.votes} at temperature 0 are {self.votes} times the same; set temperature to 0.7, say, "
                "or votes to 1"
            )
        return self

    @model_validator(mode="after")
    def _request_is_sound(self) -> JudgeOptions:
        if self.template and self.template_file:
            raise fault_in_section("template and template_file are both given; keep one of them")
        fault = template_fault(self.template)
        if fault:
            raise fault_in_section(f"template {fault}")
        taken = sorted({"model", "messages", "temperature", "max_tokens", "seed", "stream", "n"} & self.body.keys())
        if taken:
            raise fault_in_section(f"body sets {', '.join(taken)}, which the reward sets itself; use its own options")
        return self

    def template_text(self) -> str:
        """The user's template; empty: none was given. Raises `ConfigError` for a file that cannot be read or used."""
        if not self.template_file:
            return self.template
        file = Path(self.template_file).expanduser()
        if not file.is_file():
            raise ConfigError(f"template_file '{self.template_file}' does not exist")
        text = file.read_text(encoding="utf-8")
        fault = template_fault(text)
        if fault or not text:
            raise ConfigError(f"template_file '{self.template_file}' {fault or 'is empty'}")
        return text


class RewardModelOptions(PluginOptions):
    """Which model, what it reads, and what its number becomes."""

    model: InputPath
    """Folder (a model, a run or a checkpoint) or Hub id of a sequence classifier."""
    label: str = ""
    """Which label's number is the score, by name or position; may stay empty for a model with one label."""
    render: Literal["chat", "pair", "text"] = "chat"
    """chat: the conversation through the model's own chat template; pair: question and answer as the two texts of a classifier; text: question and answer run together."""
    chat_template: InputPath = ""
    """Path of a Jinja chat template in place of the model's own."""
    max_tokens: NonNegativeInt = 0
    """Longest conversation in the model's tokens; 0: its context."""
    too_long: Literal["error", "cut"] = "error"
    """A longer conversation: error has no verdict; cut leaves its beginning out."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of parameters and arithmetic; the head computes in float32 where the model allows it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it computes; auto: a GPU if there is one."""
    batch_tokens: PositiveInt = 8192
    """Tokens in one forward pass; a longer conversation is judged by itself."""
    offload: bool = False
    """Keep the weights in host memory between calls, so that a GPU is free while the policy generates and learns."""
    mean: float = 0.0
    """Taken off the model's number first; the mean over typical answers centres the scores."""
    std: PositiveFloat = 1.0
    """Then it is divided by this."""
    squash: Literal["none", "sigmoid", "softmax"] = "none"
    """sigmoid: to 0..1; softmax: the probability of `label` among all labels (mean and std are then left out)."""
    replicas: NonNegativeInt = 0
    """0: in the trainer's process; more: as many copies as Ray actors."""
    gpus_per_replica: PositiveFloat = 1.0
    """GPUs that Ray gives to each replica, 0.5 for two on one; without GPUs in the cluster they are on CPUs."""
    max_restarts: NonNegativeInt = 3
    """Replicas that may be started anew within ten minutes."""
    start_timeout_s: PositiveFloat = 600.0
    """Seconds until every replica has loaded the model."""
    silence_timeout_s: Annotated[float, Field(ge=0.0)] = 60.0
    """Seconds without a sign of life after which a replica is started anew; 0: no limit."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off unless you have read that code."""

    @model_validator(mode="after")
    def _squash_fits(self) -> RewardModelOptions:
        if self.squash == "softmax" and (self.mean != 0.0 or self.std != 1.0):
            raise fault_in_section(
                "squash = softmax gives a probability, which mean and std do not change; leave them out"
            )
        if self.render != "chat" and self.chat_template:
            raise fault_in_section(f"chat_template is not read with render = {self.render}; leave one of them out")
        return self

    def held_model(self) -> HeldModel:
        """For `--dry-run`."""
        return HeldModel(
            self.model,
            self.dtype,
            self.batch_tokens,
            replicas=self.replicas,
            device=self.device,
            is_offloaded=self.offload,
        )


def template_fault(template: str) -> str:
    """What is wrong with a template: an unknown placeholder, or none for the answer. Empty when nothing is."""
    if not template:
        return ""
    names = [match[1] for match in _PLACEHOLDER.finditer(template) if match[1]]
    unknown = next((name for name in names if name not in PLACEHOLDERS), None)
    if unknown is not None:
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        return f"has {{{unknown}}}; known are {known}; write {{{{ and }}}} for braces"
    return "" if "response" in names else "has no {response}, so the judge would not see the answer"


def filled(template: str, values: dict[str, str]) -> str:
    """The template with its placeholders replaced, once: what stands in a value is never replaced again."""

    def value(match: re.Match[str]) -> str:
        return values[match[1]] if match[1] else match[0][0]

    return _PLACEHOLDER.sub(value, template)


def is_sendable(key: str) -> bool:
    """Whether a key fits a header. HTTP libraries show one that does not in their message, key and all."""
    return key.isascii() and key.isprintable() and " " not in key


def without_secrets(url: str) -> str:
    """The address as messages show it: no user, password, query or fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme and host else url.partition("?")[0]
