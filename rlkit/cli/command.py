"""The class of all commands: an option that one lacks leads to the option, or to the config key, that was meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand

from rlkit.errors import ConfigError


class Command(TyperCommand):
    """One that is called as a kind of run takes the keys of that by `--set`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            name = getattr(error, "option_name", None)
            if type(error).__name__ != "NoSuchOption" or not isinstance(name, str) or not name.startswith("--"):
                raise
            raise ConfigError(f"no option {name}{self._hint(name)}") from None

    def _hint(self, name: str) -> str:
        from rlkit.config.keys import meanings_of
        from rlkit.config.runs import RUN_CONFIGS
        from rlkit.config.suggest import keys_about, keys_called, nearest_word

        word = name.removeprefix("--").replace("-", "_")
        helps = {option: getattr(param, "help", None) or "" for param in self.params for option in param.opts}
        spelled = {option.removeprefix("--").replace("-", "_"): option for option in helps}
        config_class = RUN_CONFIGS.get(self.name or "")
        meanings = {} if config_class is None else meanings_of(config_class)
        keys, near = keys_called(word, list(meanings)), nearest_word(word, list(spelled))
        if not keys and near is not None:
            return f"; did you mean {spelled[near]}?"
        keys = keys or keys_about(word, meanings)
        meant = keys_about(word, helps) or [_spelling(key, helps) for key in keys]
        if meant:
            return f"; did you mean {' or '.join(meant)}?"
        return f"; options: {', '.join(option for option in helps if option.startswith('--'))}"


def _spelling(key: str, helps: Mapping[str, str]) -> str:
    """The option that sets the key, which its help names in brackets."""
    return next((option for option, text in helps.items() if f"({key})" in text), f"--set {key}=...")
