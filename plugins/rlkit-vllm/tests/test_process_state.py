from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys

import numpy
import pytest
import torch
from rlkit_vllm.process_state import unchanged_process


def test_everything_that_a_guest_changes_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUEST_TEST_KEPT", "mine")
    monkeypatch.setenv("GUEST_TEST_DELETED", "mine")
    threads, handler, hook = torch.get_num_threads(), signal.getsignal(signal.SIGTERM), sys.excepthook
    start_method = multiprocessing.get_start_method(allow_none=True)
    set_num_threads = torch.set_num_threads
    random.seed(1)
    numpy.random.seed(1)
    torch.manual_seed(1)
    expected = [random.random(), numpy.random.rand(), float(torch.rand(()))]
    random.seed(1)
    numpy.random.seed(1)
    torch.manual_seed(1)
    with pytest.raises(RuntimeError, match="also after a failure"), unchanged_process(keep_prefix="GUEST_OWN_"):
        random.seed(2)
        numpy.random.seed(2)
        torch.manual_seed(2)
        os.environ.update(GUEST_TEST_KEPT="its", GUEST_TEST_NEW="its", GUEST_OWN_SETTING="its")
        del os.environ["GUEST_TEST_DELETED"]
        torch.set_num_threads(threads + 1)
        torch.set_num_threads = lambda count: None
        torch.set_float32_matmul_precision("medium")
        torch.set_default_dtype(torch.bfloat16)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        multiprocessing.set_start_method("spawn", force=True)
        sys.excepthook = print
        raise RuntimeError("also after a failure")
    assert [random.random(), numpy.random.rand(), float(torch.rand(()))] == expected
    assert os.environ["GUEST_TEST_KEPT"] == os.environ["GUEST_TEST_DELETED"] == "mine"
    assert "GUEST_TEST_NEW" not in os.environ
    assert os.environ.pop("GUEST_OWN_SETTING") == "its"
    assert torch.set_num_threads is set_num_threads
    assert torch.get_num_threads() == threads
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_default_dtype() is torch.float32
    assert signal.getsignal(signal.SIGTERM) is handler
    assert multiprocessing.get_start_method(allow_none=True) == start_method
    assert sys.excepthook is hook
