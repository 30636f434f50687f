from __future__ import annotations

import importlib
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import pytest

from rlkit.testing.ranks import RankFailedError, run_on_ranks

pytestmark = pytest.mark.slow


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield importlib.import_module("rank_functions")
    sys.modules.pop("rank_functions")


def test_results_come_in_the_order_of_ranks(functions):
    results = run_on_ranks(functions.square_and_sum, 2.0, ranks=3)
    assert [rank for rank, _, _ in results] == [0, 1, 2]
    assert [total.item() for _, total, _ in results] == [12.0] * 3
    assert {threads for _, _, threads in results} == {1}


def test_one_rank_has_no_group(functions):
    assert run_on_ranks(functions.is_alone, ranks=1) == [True]


@pytest.mark.parametrize(
    ("name", "said"),
    [("one_fails_the_others_wait", r"rank 1 failed:\n(?s:.*)ValueError: no luck"), ("one_dies", "rank 1 died")],
)
def test_the_first_error_ends_them_all(functions, name, said):
    others = {*multiprocessing.active_children()}
    with pytest.raises(RankFailedError, match=said):
        run_on_ranks(getattr(functions, name), ranks=2)
    assert not {*multiprocessing.active_children()} - others


def test_none_is_waited_for_longer_than_the_deadline(functions):
    others = {*multiprocessing.active_children()}
    with pytest.raises(RankFailedError, match="rank 0, 1 did not answer within 5 s"):
        run_on_ranks(functions.wait_forever, ranks=2, timeout_s=5)
    assert not {*multiprocessing.active_children()} - others
