"""Options of the reward that runs code."""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from rlkit.config import InputPath, PluginOptions
from rlkit_rewards.remote_options import UNSENDABLE, is_sendable

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CodeOptions(PluginOptions):
    """How code is found in an answer, what counts as right, and what it may use while it runs."""

    score: Literal["all", "fraction"] = "all"
    """all: 1 when every test passes, else 0, and nothing is run after the first failure; fraction: the share of tests that pass."""
    block: Literal["last", "first", "whole"] = "last"
    """Which fenced block of the answer is the program; an answer without one is a program as a whole. last prefers a block that defines the function that is asked for."""
    float_tolerance: Annotated[float, Field(ge=0, lt=1)] = 1e-6
    """Difference, absolute and relative, that an expected number with a decimal point allows; whole numbers and everything else have to be equal."""
    max_tests: Annotated[int, Field(ge=0)] = 0
    """Run only the first so many tests of a row; 0 runs all."""
    timeout_s: PositiveFloat = 20.0
    """Seconds for all tests of one answer; those that are left then have failed. Where a busy machine was the reason there is no verdict but an error. `reward.timeout_s` has to be at least 5 s longer."""
    test_timeout_s: PositiveFloat = 6.0
    """Seconds for one test, of CPU time or asleep; those in which it was ready to run and had to wait for a core do not count. More than `timeout_s` is cut to it."""
    memory_mib: Annotated[int, Field(ge=64)] = 1024
    """Memory of a program, in MiB: address space of each process, and what all of them hold together."""
    processes: PositiveInt = 16
    """Processes and threads of a program at once."""
    file_mib: PositiveInt = 16
    """Size of one file that a program writes, in MiB."""
    tmp_mib: PositiveInt = 64
    """Size of a program's private /tmp, in MiB; it is held in memory."""
    output_kib: PositiveInt = 1024
    """What a program may write to its output, in KiB; more is a failure."""
    sandbox: Literal["bubblewrap", "remote"] = "bubblewrap"
    """bubblewrap: on this machine (Linux); remote: on the server at `url`."""
    python: InputPath = ""
    """bubblewrap: interpreter for the programs, with its packages, such as one of a virtual environment; empty is the running one without packages."""
    visible: tuple[str, ...] = ()
    """bubblewrap: further folders, absolute, that programs may read."""
    url: str = ""
    """remote: address of the server, such as http://127.0.0.1:8080."""
    protocol: Literal["rlkit", "sandbox_fusion"] = "rlkit"
    """remote: what the server speaks: rlkit's own protocol (docs/sandbox.md) or SandboxFusion's /run_code."""
    api_key_env: str = ""
    """remote: name of the environment variable with the key, sent as `Authorization: Bearer`; empty sends none."""

    @model_validator(mode="after")
    def _fits_the_sandbox(self) -> Self:
        if self.sandbox == "remote":
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"url {self.url!r} is no address; sandbox = remote needs one: http://127.0.0.1:8080")
            if parts.username or parts.password:
                raise ValueError("url holds a user or a password; name the variable with the key in api_key_env")
        elif self.url:
            raise ValueError(
                'url is set, but sandbox = "bubblewrap" runs programs on this machine; set sandbox = "remote"'
            )
        if self.sandbox == "remote" and (self.python or self.visible):
            raise ValueError("python and visible belong to sandbox = bubblewrap; a remote sandbox has its own")
        # A key that was pasted here must not appear in the message.
        if self.api_key_env and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env):
            raise ValueError("api_key_env is not the name of an environment variable; give the name, never the key")
        if self.api_key_env and not os.environ.get(self.api_key_env, "").strip():
            raise ValueError(f"api_key_env names {self.api_key_env}, which is not set; export it, or leave it empty")
        if not is_sendable(self.api_key()):
            raise ValueError(f"api_key_env names {self.api_key_env}, {UNSENDABLE}")
        return self

    def api_key(self) -> str:
        """The key, or nothing."""
        return os.environ.get(self.api_key_env, "").strip() if self.api_key_env else ""
