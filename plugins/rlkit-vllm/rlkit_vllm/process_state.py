"""Keeping what belongs to the whole process as it was while a library that changes it starts."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy
import torch

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def unchanged_process(*, keep_prefix: str) -> Iterator[None]:
    """Afterwards random numbers, environment, torch's settings, start method, log records and signal handlers are those from before.

    Environment variables that begin with `keep_prefix` are left as they are: the library's own, which it reads later.
    """
    environment = dict(os.environ)
    python_state, numpy_state = random.getstate(), numpy.random.get_state()
    torch_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    set_num_threads, num_threads = torch.set_num_threads, torch.get_num_threads()
    matmul_precision, dtype = torch.get_float32_matmul_precision(), torch.get_default_dtype()
    start_method, excepthook = multiprocessing.get_start_method(allow_none=True), sys.excepthook
    record_factory = logging.getLogRecordFactory()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        _restore_environment(environment, keep_prefix)
        random.setstate(python_state)
        numpy.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        torch.set_num_threads = set_num_threads
        torch.set_num_threads(num_threads)
        torch.set_float32_matmul_precision(matmul_precision)
        torch.set_default_dtype(dtype)
        multiprocessing.set_start_method(start_method, force=True)
        sys.excepthook = excepthook
        logging.setLogRecordFactory(record_factory)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if handler is not None:  # None: installed by something that is not Python
                    signal.signal(number, handler)


def _restore_environment(before: Mapping[str, str], keep_prefix: str) -> None:
    for name in [name for name in os.environ if name not in before and not name.startswith(keep_prefix)]:
        del os.environ[name]
    for name, value in before.items():
        if not name.startswith(keep_prefix):
            os.environ[name] = value
