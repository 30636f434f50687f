from __future__ import annotations

import pytest

from rlkit.types import CompletionRequest, SamplingParams


def test_a_request_asks_for_one_answer() -> None:
    CompletionRequest("a", (1,), SamplingParams(max_tokens=4))
    with pytest.raises(ValueError, match="request a asks for 2 samples"):
        CompletionRequest("a", (1,), SamplingParams(max_tokens=4, samples=2))
