"""Which run of a tracker a run folder belongs to: kept in `<run>/trackers/<tracker>.json`."""

from __future__ import annotations

import json
import secrets

from rlkit.plugin.hookspecs import RunInfo
from rlkit.tracking.run_folder import write_atomically


def run_identity(run: RunInfo, tracker: str) -> tuple[str, bool]:
    """The id of the run, and whether the tracker has heard of it before.

    A run that goes on from a checkpoint keeps its id; one that begins anew gets a new one, even in a used folder.
    """
    path = run.folder / "trackers" / f"{tracker}.json"
    if run.first_step > 0:
        try:
            known = json.loads(path.read_text(encoding="utf-8"))["id"]
        except (OSError, ValueError, KeyError, TypeError):
            known = None
        if isinstance(known, str) and known:
            return known, True
    made = secrets.token_hex(8)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps({"id": made}) + "\n")
    return made, False


def remember_identity(run: RunInfo, tracker: str, run_id: str) -> None:
    """For trackers that choose the id themselves."""
    write_atomically(run.folder / "trackers" / f"{tracker}.json", json.dumps({"id": run_id}) + "\n")
