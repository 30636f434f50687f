"""A repeated update beside the recorded one, as JSON and on the terminal."""

from __future__ import annotations

import json
import math

import pytest

from rlkit.cli import replay
from rlkit.reports.replay_comparison import NumberPair, ReplayComparison, TokenPair


@pytest.fixture
def comparison() -> ReplayComparison:
    numbers = (NumberPair("actor/lr", 0.5, 0.5), NumberPair("actor/loss", None, 1.0))
    tokens = (TokenPair("old_log_probs", 9, 2, 0.25), TokenPair("ref_log_probs", 9, 9, math.inf, expected=True))
    return ReplayComparison(4, 2, None, ("reference.path",), numbers, tokens)


def test_the_json_has_no_infinity(comparison: ReplayComparison) -> None:
    content = json.loads(json.dumps(comparison.as_json(), allow_nan=False))
    assert [pair["largest"] for pair in content["tokens"]] == [0.25, None]
    assert content["unexpected"] == ["actor/loss", "old_log_probs"]


def test_every_difference_that_should_not_be_is_marked(
    comparison: ReplayComparison, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rlkit.pipelines.replay.run_replay", lambda *_, **__: comparison)
    replay.replay("run", 4)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("<")] == ["actor/loss", "old_log_probs"]
    assert [line.split()[0] for line in lines if line.endswith("(a setting was changed)")] == ["ref_log_probs"]
