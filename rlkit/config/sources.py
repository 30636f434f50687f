"""The places that settings come from, each read into a nested dict with the origin of every leaf."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, create_model
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
    YamlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError

from rlkit.config.keys import flatten
from rlkit.config.origins import Origin
from rlkit.errors import ConfigError

ENVIRONMENT_PREFIX = "RLKIT__"
ENDINGS = frozenset({".toml", ".yaml", ".yml"})
"""Of project files."""


@dataclass(frozen=True)
class Source:
    """values: nested as in a project file; origins: dotted leaf key -> origin."""

    values: Mapping[str, Any]
    origins: Mapping[str, Origin]


def settings_class(config_class: type[BaseModel]) -> type[BaseSettings]:
    """The config class as pydantic-settings wants it: only used to read sources, never to hold values."""
    fields: dict[str, Any] = {name: (field.annotation, field) for name, field in config_class.model_fields.items()}

    class Reader(BaseSettings):
        model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="allow")

    return create_model("Settings", __base__=Reader, **fields)


def read_file(config_class: type[BaseModel], path: Path) -> Source:
    """A TOML or YAML project file. Raises `ConfigError` naming file and line for one that cannot be read."""
    if not path.is_file():
        raise ConfigError(f"project file {path} {'is a folder' if path.is_dir() else _missing(path)}")
    if path.suffix not in ENDINGS:
        raise ConfigError(f"project file {path} must end in .toml, .yaml or .yml")
    reader = settings_class(config_class)
    try:
        if path.suffix == ".toml":
            values = TomlConfigSettingsSource(reader, toml_file=path)()
        else:
            values = YamlConfigSettingsSource(reader, yaml_file=path)()
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"project file {path} cannot be read: {' '.join(str(error).split())}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"project file {path} is not UTF-8 text") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"project file {path} must hold sections with keys, such as `actor: {{lr: 1e-6}}`") from error
    lines = _line_numbers(path)
    origins = {
        key: Origin("file", f"{path}:{lines[key]}" if key in lines else str(path))
        for key, _ in flatten(values, config_class)
    }
    return Source(values, origins)


def _missing(path: Path) -> str:
    """Why, and which file beside it may be meant."""
    folder, names = path.parent, []
    with suppress(OSError):  # no folder, or none that may be read
        names = sorted(file.name for file in folder.iterdir() if file.suffix in ENDINGS)
    near = get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f"does not exist; did you mean {folder / near[0]}?" if near else "does not exist"


def read_environment(
    config_class: type[BaseModel], other: Sequence[type[BaseModel]], environ: Mapping[str, str]
) -> Source:
    """`RLKIT__SECTION__KEY` variables. A section that only other kinds of run have is passed over; one that none has is an error."""
    known = {name for section in (config_class, *other) for name in section.model_fields}
    for variable in environ:
        section = variable.removeprefix(ENVIRONMENT_PREFIX).split("__")[0].lower()
        if variable.startswith(ENVIRONMENT_PREFIX) and section not in known:
            raise ConfigError(f"environment variable {variable} names no section; sections: {', '.join(sorted(known))}")
    with _environment(environ):
        source = EnvSettingsSource(settings_class(config_class))
        try:
            values = source()
        except SettingsError as error:
            cause = error.__cause__ or error
            raise ConfigError(f"environment: {' '.join(str(error).split())}: {' '.join(str(cause).split())}") from error
    spelled = {variable.upper(): variable for variable in environ}
    origins = {
        key: Origin("environment", spelled.get(environment_name(key), environment_name(key)))
        for key, _ in flatten(values, config_class)
    }
    return Source(values, origins)


def environment_name(key: str) -> str:
    """`actor.lr` -> `RLKIT__ACTOR__LR`."""
    return ENVIRONMENT_PREFIX + key.upper().replace(".", "__")


def read_assignments(config_class: type[BaseModel], assignments: Sequence[str]) -> Source:
    """`key=value` pairs of --set; the value is a TOML value, or else plain text."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {assignment}: write key=value, for example --set actor.lr=1e-6")
        place(values, key.strip(), _toml_value(text.strip()), what=f"--set {assignment}")
    origins = {key: Origin("set", "--set") for key, _ in flatten(values, config_class)}
    return Source(values, origins)


def read_flags(config_class: type[BaseModel], flags: Mapping[str, Any], spellings: Mapping[str, str]) -> Source:
    """Values of plain command-line flags, by dotted key."""
    values: dict[str, Any] = {}
    for key, value in flags.items():
        place(values, key, value, what=f"flag for {key}")
    origins = {key: Origin("flag", spellings.get(key, "flag")) for key, _ in flatten(values, config_class)}
    return Source(values, origins)


def place(values: dict[str, Any], key: str, value: Any, *, what: str) -> None:
    """Put `value` at a dotted path of a nested dict."""
    *parents, name = key.split(".")
    table = values
    for parent in parents:
        inner = table.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{what}: {parent} already has a value and cannot hold {name}")
        table = inner
    table[name] = value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


_TABLE = re.compile(r"^\s*\[\s*([A-Za-z0-9_.\"'-]+)\s*\]\s*(#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_.\"'-]+)\s*=")


def _line_numbers(path: Path) -> dict[str, int]:
    """Line of each key; only used to help people find it, so plain lines of TOML are enough."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".toml":
        return dict(_yaml_lines(yaml.compose(text)))
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _TABLE.match(line):
            table = header[1] + "."
        elif key := _KEY.match(line):
            lines.setdefault(f"{table}{key[1]}", number)
    return lines


def _yaml_lines(node: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield f"{prefix}{key.value}", key.start_mark.line + 1
            yield from _yaml_lines(value, f"{prefix}{key.value}.")


@contextmanager
def _environment(environ: Mapping[str, str]) -> Iterator[None]:
    """pydantic-settings reads os.environ: show it the given variables only, for as long as it looks."""
    before = dict(os.environ)
    chosen = {name: value for name, value in environ.items() if name.startswith(ENVIRONMENT_PREFIX)}
    for name in [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]:
        del os.environ[name]
    os.environ.update(chosen)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
