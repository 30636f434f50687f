from __future__ import annotations

import pytest

from rlkit.cluster.versions import check_versions, versions_of
from rlkit.errors import ClusterError


def test_this_process_agrees_with_itself() -> None:
    versions = versions_of(["rlkit-hf", "no-such-distribution"])
    assert {"rlkit-llm", "rlkit-hf", "torch", "transformers"} == set(versions)
    check_versions(versions, node="here")


def test_another_version_is_named_with_its_node() -> None:
    mine = versions_of([])["rlkit-llm"]
    with pytest.raises(ClusterError) as caught:
        check_versions({"rlkit-llm": "99.0"}, node="gpu7")
    assert str(caught.value) == f"node gpu7 has rlkit-llm {mine}, the driver has 99.0; install rlkit-llm==99.0 there"


def test_a_distribution_that_is_missing_is_named() -> None:
    with pytest.raises(ClusterError, match=r"node gpu7 has no acme-engine, the driver has acme-engine 2\.0; install"):
        check_versions({"acme-engine": "2.0"}, node="gpu7")
