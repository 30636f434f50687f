"""What every plugin's entry point must be, whatever its kind: light."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlkit.testing import ContractContext

HEAVY = ("torch", "transformers", "ray", "vllm", "datasets")
PROBE = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*[name for name in sys.argv[2:] if name in sys.modules])"


def the_description_imports_nothing_heavy(context: ContractContext) -> None:
    """`rlkit plugins show` and every run read the descriptions of plugins that they then do not use."""
    from rlkit.plugin.loader import find_plugin
    from rlkit.plugin.references import is_reference

    plugin = context.plugin
    if is_reference(plugin.name):
        return
    module = find_plugin(plugin.kind, plugin.name).value.partition(":")[0]
    # In a process of its own: this one has long imported them.
    done = subprocess.run([sys.executable, "-c", PROBE, module, *HEAVY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"importing {module} failed: {done.stderr.strip().splitlines()[-1]}"
    found = done.stdout.split()
    assert not found, (
        f"{module}, where the PluginSpec is, imports {', '.join(found)}; leave them to the module that the target is in"
    )


CHECKS: tuple[Callable[[ContractContext], None], ...] = (the_description_imports_nothing_heavy,)
