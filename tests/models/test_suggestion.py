from __future__ import annotations

from rlkit.models.suggestion import did_you_mean


def test_the_nearest_name_is_suggested() -> None:
    assert did_you_mean("hiden_size", ["hidden_size", "head_dim"]) == ". Did you mean 'hidden_size'?"


def test_nothing_is_suggested_for_something_else() -> None:
    assert did_you_mean("xyz", ["hidden_size", "head_dim"]) == ""
