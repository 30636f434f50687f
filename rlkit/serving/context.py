"""What the endpoints work with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from rlkit.protocols import Tokenizer
from rlkit.serving.answering import Answering
from rlkit.serving.engine_loop import EngineLoop
from rlkit.serving.metrics import ServerMetrics
from rlkit.serving.prompt_encoder import PromptEncoder
from rlkit.serving.token_views import TokenViews
from rlkit.types.server_settings import ServerSettings


@dataclass(frozen=True, eq=False)
class ServingContext:
    """folder: that of the model being served, with whose shape new weights are compared."""

    settings: ServerSettings
    tokenizer: Tokenizer
    engine: EngineLoop
    answering: Answering
    metrics: ServerMetrics
    encoder: PromptEncoder
    views: TokenViews
    folder: Path
    started: int = field(default_factory=lambda: int(time.time()))

    @property
    def timeout_s(self) -> float | None:
        """For one request; None without a limit."""
        return self.settings.timeout_s or None
