from __future__ import annotations

import os

import pytest

from rlkit.cluster.environment import set_environment_guards


def test_guards_are_set_and_the_user_s_own_value_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    set_environment_guards()
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    set_environment_guards()
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"
