"""One run from its first event to its last: folder, log, hooks, status, report, however it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlkit.errors import RunInterruptedError
from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo, RunStatus
from rlkit.plugin.loader import LoadedPlugin
from rlkit.tracking.run_folder import LOGGER, RunFolder, close_log
from rlkit.trainers.stop_signal import StopSignal, graceful_stop

if TYPE_CHECKING:
    from rlkit.config.load import Resolved


@dataclass(frozen=True)
class RunSession:
    """A run that has started."""

    info: RunInfo
    folder: RunFolder
    hooks: HookRelay
    stop: StopSignal


@contextmanager
def run_session(
    kind: str,
    resolved: Resolved,
    folder: RunFolder,
    *,
    total_steps: int,
    first_step: int,
    plugins: Sequence[LoadedPlugin],
) -> Iterator[RunSession]:
    """Everything that must happen around a run. Raises `RunInterruptedError` after a clean stop on Ctrl-C."""
    config = resolved.config.model_dump(mode="json")
    name = resolved.config.run.name_or(kind)
    run = resolved.config.run
    hooks = HookRelay.for_run(run.hooks, options=run.hook_options)
    info = RunInfo(
        kind=kind, name=name, folder=folder.path, config=config, total_steps=total_steps, first_step=first_step
    )
    origins = {key: str(origin) for key, origin in resolved.origins.items()}
    folder.start(kind, name, config, origins, [_described(plugin) for plugin in plugins])
    folder.forget_after(first_step)
    log = folder.open_log()
    LOGGER.info("%s run %s, step %d of %d", kind, name, first_step, total_steps)
    status: RunStatus = "failed"
    error = ""
    hooks.run_started(run=info)
    try:
        with graceful_stop() as stop:
            yield RunSession(info, folder, hooks, stop)
            status = "interrupted" if stop.requested else "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except BaseException as caught:
        error = f"{type(caught).__name__}: {caught}"
        LOGGER.exception("the run failed")
        raise
    finally:
        try:
            folder.finish(status, error=error)
        except OSError as refused:
            LOGGER.warning("run.json does not say how the run ended (%s)", refused)
        _write_report(folder)
        hooks.run_finished(run=info, status=status)
        close_log(log)
    if status == "interrupted":
        raise RunInterruptedError(f"stopped; its state is saved in {folder.path}: run the same command again to go on")


def _described(plugin: LoadedPlugin) -> dict[str, str]:
    return {
        "kind": plugin.kind.value,
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
    }


def _write_report(folder: RunFolder) -> None:
    """A report that cannot be written must not fail a run that has succeeded."""
    try:
        from rlkit.reports.html import write_report

        write_report(folder.path)
    except OSError as error:
        LOGGER.warning("report.html was not written (%s)", error)
    except Exception:
        LOGGER.exception("report.html was not written")
