"""What an answer is, in a few bytes: to remember verdicts by, and to seed random generators with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b

from rlkit.types.prompts import Prompt
from rlkit.types.reward import Sample

DIGEST_BYTES = 16


def answer_digests(samples: Sequence[Sample]) -> list[bytes | None]:
    """One digest of everything that a function can see of each sample; None where that has no spelling of its own.

    Equal content gives equal digests in every process.
    """
    prompts: dict[int, bytes | None] = {}
    digests: list[bytes | None] = []
    for sample in samples:
        key = id(sample.prompt)  # the answers of a group share the object, which `samples` keeps alive
        if key not in prompts:
            prompts[key] = _prompt_digest(sample.prompt)
        digests.append(_answer_digest(prompts[key], sample))
    return digests


def seed_of_answer(run_seed: int, function: str, sample: Sample) -> int:
    """64 bits for the random generators of one judgement: the same whoever judges, and whenever."""
    asked = f"{run_seed}\n{function}\n{sample.prompt.data_source}\n{sample.prompt.row_id}\n"
    digest = blake2b((asked + sample.response).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def _prompt_digest(prompt: Prompt) -> bytes | None:
    told = [prompt.row_id, prompt.messages, prompt.text, prompt.reference, prompt.data_source, prompt.extra]
    digest = _digest(told)
    if digest is None or not prompt.images:
        return digest
    joined = blake2b(digest, digest_size=DIGEST_BYTES)
    for image in prompt.images:
        joined.update(blake2b(image, digest_size=DIGEST_BYTES).digest())
    return joined.digest()


def _answer_digest(prompt: bytes | None, sample: Sample) -> bytes | None:
    if prompt is None:
        return None
    talk = sample.conversation
    said = None if talk is None else [talk.opening, talk.replies, talk.end, talk.turn_rewards]
    return _digest([prompt.hex(), sample.response, sample.finish_reason, sample.num_response_tokens, said])


def _digest(values: object) -> bytes | None:
    try:
        text = json.dumps(values)
    except (TypeError, ValueError, RecursionError):
        return None
    return blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()
