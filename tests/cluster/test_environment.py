from __future__ import annotations

import os

import pytest

from rlkit.cluster.environment import set_environment_guards


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the guards set where there was nothing is not put back by deleting it before."""
    monkeypatch.setattr(os, "environ", dict(os.environ))


def test_guards_are_set_and_the_user_s_own_value_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    set_environment_guards()
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    set_environment_guards()
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


@pytest.mark.parametrize(("own", "spins"), [(None, "60000"), ("ACTIVE", None)])
def test_threads_wait_for_a_moment_and_then_sleep_unless_the_user_says_how(
    monkeypatch: pytest.MonkeyPatch, own: str | None, spins: str | None
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if own is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", own)
    set_environment_guards()
    assert os.environ["OMP_WAIT_POLICY"] == (own or "PASSIVE")
    assert os.environ.get("GOMP_SPINCOUNT") == spins
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    set_environment_guards()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
