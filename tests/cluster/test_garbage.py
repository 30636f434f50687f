"""Collections of cycles are rare while libraries load, and as usual from then on."""

from __future__ import annotations

import gc
import subprocess
import sys

from rlkit.cluster.garbage import LOADING, collect_as_usual, collect_rarely
from rlkit.testing.tiny_model import tiny_model


def test_what_was_usual_comes_back():
    usual = gc.get_threshold()
    collect_as_usual()
    assert gc.get_threshold() == usual
    collect_rarely()
    collect_rarely()
    assert gc.get_threshold() == LOADING
    collect_as_usual()
    assert gc.get_threshold() == usual


def test_a_command_loads_without_them_and_computes_with_them():
    script = f"""
import gc, sys
from rlkit.config.sections import ModelSection
import rlkit.cli.main as command
from rlkit.cluster.garbage import LOADING

usual = gc.get_threshold()

def run(prog_name):
    assert gc.get_threshold() == LOADING
    from rlkit.pipelines.assembly import locate
    locate(ModelSection(path={str(tiny_model())!r}))
    assert gc.get_threshold() == usual

command.app = run
command.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
