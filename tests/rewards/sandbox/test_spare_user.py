"""User ids that nobody has."""

from __future__ import annotations

import pwd

import pytest

from rlkit.errors import SandboxError
from rlkit.rewards.sandbox.spare_user import spare_user_id


@pytest.mark.parametrize(
    ("uid_map", "low", "high"),
    [
        ("         0          0 4294967295\n", 2**31 - 1 - 2**24, 2**31 - 1),
        ("         0       1000          1\n         1     100000      65536\n", 1000, 65537),
    ],
)
def test_an_id_exists_here_and_is_nobodys(uid_map: str, low: int, high: int) -> None:
    found = {spare_user_id(uid_map) for _ in range(20)}
    assert len(found) > 10
    assert all(low <= number < high for number in found)
    assert not found & {entry.pw_uid for entry in pwd.getpwall()}


def test_a_place_with_one_user_has_none() -> None:
    with pytest.raises(SandboxError, match="no spare user ids"):
        spare_user_id("         0       1000          1\n")
