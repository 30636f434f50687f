from __future__ import annotations

import pytest

from rlkit.errors import ConfigError, MissingRequirementError
from rlkit.plugin.requirements import check_required_plugins


def test_met_requirements_pass(install):
    install("acme", {}, version="1.5")
    check_required_plugins(["acme", "acme>=1.0", "ACME~=1.2"])


def test_every_unmet_one_is_named_with_what_is_installed(install):
    install("acme", {}, version="1.5")
    with pytest.raises(MissingRequirementError) as caught:
        check_required_plugins(["acme>=2", "no-such-distribution", "acme"])
    assert str(caught.value) == (
        "run.required_plugins: acme>=2 (installed: 1.5), no-such-distribution (not installed); "
        "pip install 'acme>=2' 'no-such-distribution'"
    )


def test_a_prerelease_counts(install):
    install("acme", {}, version="2.0rc1")
    check_required_plugins(["acme>=1"])


def test_something_that_is_no_requirement_is_a_config_error():
    with pytest.raises(ConfigError, match=r"run\.required_plugins: 'a b' is not a requirement"):
        check_required_plugins(["a b"])
