"""Ray, started for a run or joined. Of rlkit, only this module and `ray_transport` import it, and only when replicas are asked for."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlkit.errors import ClusterError, MissingRequirementError

LOGGER = logging.getLogger("rlkit")

MINIMUM_STORE_BYTES = 80 * 2**20
"""Ray refuses less."""

CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class ClusterSettings:
    """address is `cluster.address`; the others are for a Ray that is started here.

    num_cpus            at least; more where the machine has more
    object_store_bytes  0 leaves Ray's choice
    visible_gpus        the GPUs that Ray may give away, as CUDA_VISIBLE_DEVICES calls them; None: all
    """

    address: str = ""
    num_cpus: int = 1
    object_store_bytes: int = 0
    visible_gpus: tuple[str, ...] | None = None


class RaySession:
    """A connection to Ray. `close` ends a Ray that was started here, and leaves one that was joined alone."""

    def __init__(self, ray: Any, *, started_here: bool, joined_here: bool) -> None:
        self._ray = ray
        self._joined_here = joined_here
        self.started_here = started_here
        self._raylet = _child_named("raylet") if started_here else None
        self._is_open = True

    @property
    def gpus(self) -> float:
        """GPUs of all nodes together."""
        return float(self._ray.cluster_resources().get("GPU", 0))

    @property
    def free_gpus(self) -> float:
        """GPUs that nobody has reserved."""
        return float(self._ray.available_resources().get("GPU", 0))

    @property
    def cpus(self) -> float:
        return float(self._ray.cluster_resources().get("CPU", 0))

    def check_alive(self) -> None:
        """Raises `ClusterError` when Ray's own process on this machine has died, of which Ray tells only much later."""
        if self._raylet is not None and not _is_running(self._raylet):
            raise ClusterError(
                f"Ray's node process (raylet, process {self._raylet}) has died, and all workers with it: killed, or out of "
                "memory; what is written is safe: run the same command again to go on"
            )

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            if self._joined_here:
                self._ray.shutdown()


def open_ray(settings: ClusterSettings) -> RaySession:
    """Join the cluster, or start one. A Ray that this process is already connected to is used as it is.

    A Ray that is started here listens on the loopback interface only, asks for a token that nobody else has, and dies
    with this process. To be called from the main thread: Ray's processes end with the thread that started them.
    Raises `ClusterError` when there is no Ray at the address, `MissingRequirementError` without the package.
    """
    if not settings.address and "ray" not in sys.modules:
        _keep_to_loopback()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingRequirementError("replicas need Ray: pip install 'rlkit-llm[ray]'") from error
    if ray.is_initialized():
        return RaySession(ray, started_here=_child_named("raylet") is not None, joined_here=False)
    _silence(ray)
    _check_reachable(settings.address)
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "logging_level": "error"}
    if settings.address:
        options["address"] = settings.address
    else:
        options |= {"include_dashboard": False, "num_cpus": max(settings.num_cpus, os.cpu_count() or 1)}
        if settings.object_store_bytes:
            options["object_store_memory"] = max(settings.object_store_bytes, MINIMUM_STORE_BYTES)
    try:
        with _only_these_gpus(settings.visible_gpus):
            ray.init(**options)
    except Exception as error:
        place = f"at cluster.address = {settings.address}" if settings.address else "on this machine"
        raise ClusterError(
            f"no Ray could be {'joined' if settings.address else 'started'} {place}: {_line(error)}"
        ) from error
    LOGGER.info("ray %s: %s", ray.__version__, settings.address or "started on this machine")
    return RaySession(ray, started_here=not settings.address, joined_here=True)


def _keep_to_loopback() -> None:
    """Ray reads these when it is imported; its workers inherit them. The user's own values win."""
    # Without clusters across machines Ray takes 127.0.0.1 as its address, on every system.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _check_reachable(address: str) -> None:
    """Ray ends the whole process when nobody answers; this raises `ClusterError` first."""
    host, _, port = address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray could be joined at cluster.address = {address}: {error.strerror or error}; start one there with "
            "`ray start --head`, or leave the address empty to have one started for the run"
        ) from error


@contextmanager
def _only_these_gpus(names: tuple[str, ...] | None) -> Iterator[None]:
    """Ray's processes take over the variables of the moment in which they start; this process keeps its own."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
    try:
        yield
    finally:
        if before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before
        else:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)


def _silence(ray: Any) -> None:
    """Ray prints what its node process has to say to standard output, where `--json` promises lines of JSON."""
    worker = ray._private.worker
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda data, ignore_prefix=False: LOGGER.debug("ray: %s", data.get("lines"))


def _child_named(name: str) -> int | None:
    """Process id of a child of this process; None where the system does not tell."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        fields = _fields(status)
        if fields is not None and fields[0] == name and int(fields[2]) == os.getpid():
            return int(status.parent.name)
    return None


def _is_running(pid: int) -> bool:
    fields = _fields(Path(f"/proc/{pid}/stat"))
    return fields is not None and fields[1] not in "ZX"


def _fields(status: Path) -> list[str] | None:
    """Name, state, parent, ... of a process; its name stands in brackets and may hold anything."""
    try:
        before, _, after = status.read_text(encoding="utf-8", errors="replace").rpartition(")")
    except OSError:
        return None
    return [before.partition("(")[2], *after.split()]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
