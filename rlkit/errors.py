"""Every error that rlkit raises on purpose.

One base class, `RLKitError`; each error also inherits the standard error that it resembles. The
command line prints the message as one line and exits with `exit_code`; `--debug` shows the traceback.
"""

from __future__ import annotations


class RLKitError(Exception):
    """Base of all errors that rlkit raises on purpose."""

    exit_code = 1


class ConfigError(RLKitError, ValueError):
    """A setting is unknown, has the wrong type, is out of range, or contradicts another one."""

    exit_code = 2


class PluginError(RLKitError):
    """A plugin cannot be used."""

    exit_code = 3


class PluginNotFoundError(PluginError, LookupError):
    """No installed plugin has this name."""


class PluginConflictError(PluginError):
    """Two distributions provide the same kind and name."""


class BrokenPluginError(PluginError, ImportError):
    """A plugin is installed but failed to load, or was made for another plugin API."""


class MissingRequirementError(PluginError, ImportError):
    """A plugin needs a module that is not installed."""


class DataError(RLKitError, ValueError):
    """A data file is missing, empty, or a row cannot be read."""

    exit_code = 4


class ModelError(RLKitError, ValueError):
    """A model folder is missing, incomplete, of an unknown architecture, or would run foreign code."""

    exit_code = 4


class RewardError(RLKitError, RuntimeError):
    """A reward function failed in a way that makes going on meaningless."""

    exit_code = 5


class TransientRewardError(RewardError):
    """A reward function could not judge an answer now, but may a little later: rlkit asks it again, with growing pauses.

    retry_after_s: the shortest pause before that, where the function knows it (a server's Retry-After).
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type[TransientRewardError], tuple[str, float | None]]:
        return type(self), (str(self), self.retry_after_s)


class SandboxError(RewardError):
    """Code cannot be run in a sandbox here; it is never run without one."""


class RolloutError(RLKitError, RuntimeError):
    """A tool, an environment or the rollout engine failed in a way that makes going on meaningless."""

    exit_code = 5


class CheckpointError(RLKitError, RuntimeError):
    """A checkpoint is damaged, incomplete, or belongs to another run."""

    exit_code = 6


class ClusterError(RLKitError, RuntimeError):
    """Ray, training workers or the replicas of an engine cannot be had, or failed for good."""

    exit_code = 7


class TrainingError(RLKitError, RuntimeError):
    """Training cannot go on (for example: every gradient is non-finite)."""


class RunInterruptedError(RLKitError):
    """The user stopped the run; its last state has been saved."""

    exit_code = 130
