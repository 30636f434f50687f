"""A running server as lm-evaluation-harness wants a model. It answers; a server tells no likelihoods of given texts."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lm_eval.api.model import LM
from lm_eval.models.utils import postprocess_generated_text

from rlkit.errors import ConfigError, RolloutError
from rlkit.evaluation.harness.model import sampling_of
from rlkit.types import SamplingParams

IN_FLIGHT = 32
"""Requests that a server has at once."""
TIMEOUT_S = 600.0
RETRIES = 5
FIRST_WAIT_S = 0.5
"""Before the first retry; it doubles each time."""
BUSY_CODES = (429, 500, 502, 503, 504)


class ServerBusyError(RolloutError):
    """A failure that may pass."""


class ServerLM(LM):  # type: ignore[misc]
    """The harness's interface over `/v1/completions`, or with a chat template over `/v1/chat/completions`.

    Raises `RolloutError` when the server cannot be reached or refuses a request.
    """

    def __init__(self, url: str, *, model: str = "", api_key: str = "", seed: int = 0) -> None:
        super().__init__()
        address = url.rstrip("/")
        self._url = address if address.endswith("/v1") else f"{address}/v1"
        self._api_key = api_key
        self._seed = seed
        self.model_name = model or self._served_model()

    @property
    def tokenizer_name(self) -> str:
        return self.model_name.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The server has its own."""
        return ""

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """The messages as JSON, in the place of a text."""
        return json.dumps({"messages": list(chat_history)})

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        raise ConfigError(
            f"the task {requests[0].task_name} compares likelihoods, which a server does not tell; give --model instead of --server"
        )

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        raise ConfigError(
            f"the task {requests[0].task_name} measures likelihoods, which a server does not tell; give --model instead of --server"
        )

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        def answer(request: Any, seed: int) -> str:
            context, settings = request.args
            text = self._answer(context, sampling_of(settings, seed=seed))
            self.cache_hook.add_partial("generate_until", request.args, text)
            return text

        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            return list(pool.map(answer, requests, self._seeds(requests)))

    def _seeds(self, requests: Sequence[Any]) -> Iterator[int]:
        """One for each request: to the same seed and prompt a server gives the same answer, and a task may want several."""
        repeats: Counter[str] = Counter()
        for request in requests:
            asked = repr(request.args)
            text = f"{self._seed}\n{repeats[asked]}\n{asked}".encode("utf-8", "surrogatepass")
            repeats[asked] += 1
            # 31 bits are a seed wherever one is taken.
            yield int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little") >> 1

    def _answer(self, context: str, sampling: SamplingParams) -> str:
        body: dict[str, Any] = {
            "model": self.model_name,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "stop": list(sampling.stop) or None,
            # Not in OpenAI's protocol: sent only where a task asks for them, to servers that have them or refuse.
            "top_k": sampling.top_k or None,
            "min_p": sampling.min_p or None,
        }
        messages = _messages(context)
        if messages is None:
            reply = self._post("completions", body | {"prompt": context})["choices"][0]["text"]
        else:
            reply = self._post("chat/completions", body | {"messages": messages})["choices"][0]["message"]["content"]
        return str(postprocess_generated_text(reply or "", list(sampling.stop), None))

    def _served_model(self) -> str:
        return str(self._request("models", None)["data"][0]["id"])

    def _post(self, place: str, body: Mapping[str, Any]) -> Any:
        """Busy servers and lost connections are asked again: an evaluation of hours must not end with one of them."""
        given = {name: value for name, value in body.items() if value is not None}
        for attempt in range(RETRIES):
            try:
                return self._request(place, given)
            except ServerBusyError:
                time.sleep(FIRST_WAIT_S * 2**attempt)
        return self._request(place, given)

    def _request(self, place: str, body: Mapping[str, Any] | None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/{place}", data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            said = error.read().decode("utf-8", errors="replace")[:500]
            kind = ServerBusyError if error.code in BUSY_CODES else RolloutError
            raise kind(f"{request.full_url} answered {error.code}: {said}") from error
        except (OSError, ValueError) as error:
            kind = RolloutError if isinstance(error, ValueError) else ServerBusyError
            raise kind(f"{request.full_url} cannot be asked: {error}; is `rlkit serve` running there?") from error


def _messages(context: str) -> list[dict[str, str]] | None:
    """What `apply_chat_template` made of a conversation; None for a plain text."""
    if not context.startswith('{"messages": '):
        return None
    messages: list[dict[str, str]] = json.loads(context)["messages"]
    return messages
