"""What `rlkit init` copies: project and plugin templates, rlkit's own and those of installed distributions.

A template is a folder with a `copier.yml`; beside its questions that file has

    summary               a computed value: the line shown by `rlkit init --list`
    _message_after_copy   the commands to type next

Another distribution offers a template by an entry point in the group `rlkit.templates` whose value is the dotted path
of the folder inside an installed package: `cool = "my_package.templates.cool"`. The package is located, not imported.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import rlkit
from rlkit.errors import ConfigError, PluginConflictError

TEMPLATE_GROUP = "rlkit.templates"
QUESTIONS_FILE = "copier.yml"
OWN_DISTRIBUTION = "rlkit-llm"


@dataclass(frozen=True)
class Template:
    """A folder that can be copied. `problem` says why it cannot be used; its folder is then not to be touched."""

    name: str
    distribution: str
    version: str
    folder: Path
    problem: str = ""

    @cached_property
    def questions(self) -> Mapping[str, Any]:
        """The content of copier.yml."""
        import yaml

        content = yaml.safe_load((self.folder / QUESTIONS_FILE).read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}

    @property
    def summary(self) -> str:
        """One line, or why the template cannot be used."""
        if self.problem:
            return self.problem
        computed = self.questions.get("summary", {})
        return str(computed.get("default", "") if isinstance(computed, dict) else computed)

    @property
    def settings(self) -> dict[str, str]:
        """What `--set` may change, with its explanation."""
        return {
            name: str(question.get("help", "")) if isinstance(question, dict) else ""
            for name, question in self.questions.items()
            if not name.startswith("_") and not (isinstance(question, dict) and question.get("when") is False)
        }


def find_templates() -> tuple[Template, ...]:
    """All templates by name, rlkit's own first. Imports no package that offers one."""
    own = [
        Template(folder.name, OWN_DISTRIBUTION, rlkit.__version__, folder)
        for folder in sorted(own_templates_folder().iterdir())
        if (folder / QUESTIONS_FILE).is_file()
    ]
    others = [_template_of(entry) for entry in entry_points(group=TEMPLATE_GROUP)]
    return (*own, *sorted(others, key=lambda template: (template.name, template.distribution)))


def own_templates_folder() -> Path:
    """Inside the package where rlkit is installed from a wheel, beside it in a checkout."""
    package = Path(rlkit.__file__).parent
    for folder in (package / "_templates", package.parent / "templates"):
        if folder.is_dir():
            return folder
    raise ConfigError(f"rlkit's templates are missing from {package}; install {OWN_DISTRIBUTION} again")


def choose_template(name: str) -> Template:
    """The usable template called `name`.

    Raises `ConfigError` with near matches for an unknown or unusable one, `PluginConflictError` when two distributions
    offer the name.
    """
    templates = find_templates()
    found = [template for template in templates if template.name == name]
    if not found:
        names = sorted({template.name for template in templates})
        near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
        hint = f" Did you mean {' or '.join(repr(other) for other in near)}?" if near else ""
        raise ConfigError(f"template {name!r} not found; available: {', '.join(names)}.{hint}")
    if len(found) > 1:
        owners = " and ".join(f"{template.distribution} {template.version}" for template in found)
        raise PluginConflictError(f"template {name!r} is offered by {owners}; uninstall one of them")
    if found[0].problem:
        raise ConfigError(f"template {name!r} cannot be used: {found[0].problem}")
    return found[0]


def create_project(template: Template, target: Path, settings: Mapping[str, str]) -> tuple[str, ...]:
    """Copy `template` to `target`, a new or empty folder; returns the commands to type next.

    `settings` are the template's own (see `Template.settings`). Raises `ConfigError` for a folder in use, a name that
    is no project name, and unknown or wrong settings. A template may not run code.
    """
    name = target.resolve().name
    _check_target(target, name)
    _check_settings(template, settings)
    answers = _copy(template, target, {"name": name, "package": _package_name(name), **settings})
    return _next_commands(template, {**answers, "folder": str(target)})


def _copy(template: Template, target: Path, data: Mapping[str, str]) -> dict[str, Any]:
    from copier import run_copy
    from copier.errors import CopierError, UserMessageError

    try:
        worker = run_copy(str(template.folder), target, data=dict(data), defaults=True, quiet=True, overwrite=True)
    except (CopierError, UserMessageError, ValueError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"template {template.name!r} cannot be copied to {target}: {reason}") from error
    return dict(worker.answers.combined)


def _check_target(target: Path, name: str) -> None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", name):
        raise ConfigError(
            f"{name!r} cannot be a project name: use letters, digits, dot, dash and underscore, starting with a letter"
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} exists and is not empty; choose another name or remove it")


def _check_settings(template: Template, settings: Mapping[str, str]) -> None:
    known = template.settings
    for name in settings:
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"template {template.name!r} has no setting {name!r}; settings: {', '.join(known) or '(none)'}.{hint}"
        )


def _package_name(name: str) -> str:
    """A project name as a Python package: `my-plugin` -> `my_plugin`."""
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def _next_commands(template: Template, answers: Mapping[str, Any]) -> tuple[str, ...]:
    from jinja2.sandbox import SandboxedEnvironment

    text = SandboxedEnvironment().from_string(str(template.questions.get("_message_after_copy", ""))).render(answers)
    return tuple(line for line in text.splitlines() if line.strip())


def _template_of(entry: EntryPoint) -> Template:
    distribution = entry.dist.name if entry.dist is not None else "(unknown)"
    version = entry.dist.version if entry.dist is not None else ""
    folder = _locate(entry.value)
    problem = ""
    if folder is None:
        problem = f"{distribution} {version} names {entry.value!r}, which is no folder of an installed package"
    elif not (folder / QUESTIONS_FILE).is_file():
        problem = f"{distribution} {version} has no {QUESTIONS_FILE} in {entry.value!r}"
    return Template(entry.name, distribution, version, folder or Path(), problem)


def _locate(dotted: str) -> Path | None:
    """The folder of `package.folder.folder`, without importing the package."""
    package, *rest = dotted.split(".")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        folder = Path(location).joinpath(*rest)
        if folder.is_dir():
            return folder
    return None
