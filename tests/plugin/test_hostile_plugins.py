"""Real wheels of plugins that misbehave, installed beside the good ones: each is reported, none is in the way.

One of them sleeps for longer than any command here is given, so that a command that imports it without need is seen as a
timeout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SPEC = """
from rlkit.plugin import PluginKind, PluginSpec

spec = PluginSpec(kind=PluginKind.{kind}, target="{package}.target:target", summary="A test."{extra})
"""
REWARD = "def target(response: str) -> float:\n    return 1.0\n"
MISSPELT_HOOK = """
from rlkit.plugin import hookimpl


class target:
    @hookimpl
    def step_finishd(self, run, step, metrics):
        raise AssertionError("never called")
"""
RAISING_HOOK = """
from rlkit.plugin import hookimpl


class target:
    @hookimpl
    def step_finished(self, run, step, metrics):
        raise ValueError("no disk")
"""
PPO = ("train", "ppo", "ppo.toml", "--model", "models/start")
SLEEP_S = 600
"""Longer than any command below is given, shorter than forever should a test leave it behind."""
COMMAND_TIMEOUT_S = 300


@dataclass(frozen=True)
class Hostile:
    """One distribution; `name` is also its package with dashes for underscores."""

    name: str
    plugin: str
    description: str
    target: str = REWARD
    group: str = "reward_functions"

    @property
    def package(self) -> str:
        return self.name.replace("-", "_")

    def write(self, folder: Path) -> Path:
        project = folder / self.name
        (project / self.package).mkdir(parents=True)
        (project / "pyproject.toml").write_text(
            "[build-system]\nrequires = ['hatchling']\nbuild-backend = 'hatchling.build'\n"
            f"[project]\nname = '{self.name}'\nversion = '1.2'\n"
            f"[project.entry-points.'rlkit.{self.group}']\n{self.plugin} = '{self.package}.plugin:spec'\n"
        )
        (project / self.package / "__init__.py").write_text("")
        (project / self.package / "plugin.py").write_text(self.description)
        (project / self.package / "target.py").write_text(self.target)
        return project


def spec(package: str, kind: str = "REWARD_FUNCTION", extra: str = "") -> str:
    return SPEC.format(kind=kind, package=package, extra=extra)


HOSTILE = (
    Hostile("acme-raises", "acme_raises", "raise RuntimeError('no licence\\nfound')"),
    Hostile("acme-sleeps", "acme_sleeps", f"import time\ntime.sleep({SLEEP_S})\n{spec('acme_sleeps')}"),
    Hostile("acme-heavy", "acme_heavy", f"import torch\n{spec('acme_heavy')}"),
    Hostile("acme-twin-one", "acme_twin", spec("acme_twin_one")),
    Hostile("acme-twin-two", "acme_twin", spec("acme_twin_two")),
    Hostile("acme-newer", "acme_newer", spec("acme_newer", extra=", api_version=99")),
    Hostile("acme-exits", "acme_exits", spec("acme_exits"), target="import sys\nsys.exit('bye')\n"),
    Hostile(
        "acme-misspelt", "acme_misspelt", spec("acme_misspelt", "HOOK", ", always_on=True"), MISSPELT_HOOK, "hooks"
    ),
    Hostile("acme-full", "acme_full", spec("acme_full", "HOOK", ", always_on=True"), RAISING_HOOK, "hooks"),
    Hostile("acme-family", "acme_family", "import no_such_module", REWARD, "model_families"),
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all hostile wheels installed, to be put on PYTHONPATH."""
    folder = tmp_path_factory.mktemp("hostile")
    projects = [str(plugin.write(folder / "projects")) for plugin in HOSTILE]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder / "wheels")]
    subprocess.run([*build, *projects], check=True, timeout=300)
    wheels = [str(path) for path in sorted((folder / "wheels").glob("*.whl"))]
    assert len(wheels) == len(HOSTILE)
    install = [*pip, "install", "--no-deps", "--no-index", "--no-compile", "--target", str(folder / "site")]
    subprocess.run([*install, *wheels], check=True, timeout=300)
    return folder / "site"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quickstart project with data and a starting model, made without the hostile plugins."""
    parent = tmp_path_factory.mktemp("hostile-project")
    folder = parent / "project"
    run(parent, None, "init", "project", "--template", "quickstart")
    data = [sys.executable, "make_data.py", "--largest", "19", "--examples", "32", "--heldout", "8"]
    subprocess.run(data, cwd=folder, check=True, capture_output=True, timeout=COMMAND_TIMEOUT_S)
    create = ["models", "create", "models/start", "--family", "qwen3", "--size", "tiny"]
    run(folder, None, *create, "--tokenizer", "char", "--alphabet", "0123456789+=?# ")
    return folder


def environment(site: Path | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RLKIT")}
    return {**kept, "OMP_NUM_THREADS": "1", **({"PYTHONPATH": str(site)} if site else {})}


def run(
    folder: Path, site: Path | None, *arguments: str, code: int = 0, **variables: str
) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "rlkit", *arguments],
        cwd=folder,
        env={**environment(site), **variables},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    assert result.returncode == code, f"rlkit {' '.join(arguments)}\n{result.stdout}\n{result.stderr}"
    return result


def complaints(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on stderr, without the notices that a slow machine brings about."""
    return [line for line in result.stderr.splitlines() if not line.startswith("still importing ")]


def error_line(result: subprocess.CompletedProcess[str]) -> str:
    """The only line on stderr."""
    (line,) = complaints(result)
    return line


class TestListing:
    def test_every_one_is_listed_with_its_distribution_and_none_is_imported(self, installed, tmp_path):
        rows = json.loads(run(tmp_path, installed, "plugins", "list", "--json").stdout)
        states = {row["distribution"]: row["state"] for row in rows}
        for plugin in HOSTILE:
            expected = "conflict" if plugin.plugin == "acme_twin" else "ok"
            assert states[plugin.name] == expected
        good = {(row["kind"], row["name"]) for row in rows if row["state"] == "ok"}
        assert {("rollout_engine", "hf"), ("actor_backend", "fsdp"), ("hook", "jsonl")} <= good

    def test_both_sides_of_a_conflict_are_in_the_table(self, installed, tmp_path):
        result = run(tmp_path, installed, "plugins", "list")
        for name in ("acme-twin-one", "acme-twin-two"):
            assert any(name in line and line.endswith("conflict") for line in result.stdout.splitlines())
        assert result.stderr == (
            "conflict: reward function 'acme_twin' comes from acme-twin-one 1.2 and acme-twin-two 1.2\n"
        )


class TestSelecting:
    """Naming a bad plugin gives one line with the distribution and the cause, before anything heavy is loaded."""

    @pytest.mark.parametrize(
        ("plugin", "distribution", "cause"),
        [
            ("acme_raises", "acme-raises 1.2", "RuntimeError: no licence found"),
            ("acme_newer", "acme-newer 1.2", "made for plugin API 99, this rlkit has 1; upgrade rlkit-llm"),
            ("acme_exits", "acme-exits 1.2", "SystemExit: bye"),
            ("acme_twin", "acme-twin-one 1.2 and acme-twin-two 1.2", "uninstall one of them"),
        ],
    )
    def test_in_a_run(self, installed, project, plugin, distribution, cause):
        result = run(project, installed, *PPO, "--reward", plugin, "--steps", "1", code=3)
        line = error_line(result)
        assert line.startswith(f"error: reward function '{plugin}'")
        assert distribution in line
        assert cause in line
        assert not (project / "runs" / "ppo").exists()

    @pytest.mark.parametrize(
        ("plugin", "distribution", "cause"),
        [
            ("acme_raises", "acme-raises 1.2", "RuntimeError: no licence found"),
            ("acme_newer", "acme-newer 1.2", "made for plugin API 99"),
            ("acme_family", "acme-family 1.2", "No module named 'no_such_module'"),
        ],
    )
    def test_shown(self, installed, tmp_path, plugin, distribution, cause):
        (found,) = json.loads(run(tmp_path, installed, "plugins", "show", plugin, "--json").stdout)
        assert distribution in found["problem"]
        assert cause in found["problem"]

    def test_a_description_that_imports_torch_fails_the_check(self, installed, tmp_path):
        result = run(tmp_path, installed, "plugins", "check", "acme_heavy", code=3)
        assert "acme-heavy 1.2" in result.stdout
        failed = [line for line in result.stdout.splitlines() if line.strip().startswith("✗")]
        assert len(failed) == 1
        assert "acme_heavy.plugin, where the PluginSpec is, imports torch" in failed[0]

    def test_a_misspelt_event_fails_the_check_with_the_right_name(self, installed, tmp_path):
        result = run(tmp_path, installed, "plugins", "check", "acme_misspelt", code=3)
        assert "listens to 'step_finishd', which is no event; did you mean 'step_finished'?" in result.stdout

    def test_one_that_takes_long_is_named_while_people_wait(self, installed, project):
        process = subprocess.Popen(
            [sys.executable, "-m", "rlkit", "plugins", "show", "acme_sleeps"],
            cwd=project,
            env=environment(installed),
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == (
                "still importing reward function 'acme_sleeps' from acme-sleeps 1.2 after 5 s\n"
            )
        finally:
            process.kill()
            process.communicate()

    def test_a_disabled_twin_leaves_the_other_one_usable(self, installed, project):
        shown = run(project, installed, "plugins", "check", "acme_twin", RLKIT_DISABLED_PLUGINS="acme-twin-one").stdout
        assert shown.splitlines()[0] == "reward function acme_twin, acme-twin-two 1.2"
        assert "acme-twin-one" not in shown
        plan = [*PPO, "--reward", "acme_twin", "--dry-run"]
        run(project, installed, *plan, RLKIT_DISABLED_PLUGINS="acme-twin-one")


class TestNotSelecting:
    """Commands that name none of them work as they do without them."""

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--help",),
            ("--version",),
            ("sft", "--help"),
            ("config", "show", "ppo.toml"),
            ("config", "show", "sft.toml", "--changed"),
            ("config", "explain", "actor.lr"),
            ("plugins", "show", "hf"),
            ("plugins", "check", "length"),
            (*PPO, "--dry-run"),
            ("sft", "sft.toml", "--dry-run"),
            ("models", "inspect", "models/start"),
        ],
        ids=" ".join,
    )
    def test_the_output_is_the_same(self, installed, project, arguments):
        plain = run(project, None, *arguments)
        crowded = run(project, installed, *arguments)
        assert crowded.stdout == plain.stdout
        assert complaints(crowded) == complaints(plain)

    def test_a_run_finishes_and_reports_each_bad_hook_once(self, installed, project):
        result = run(project, installed, "sft", "sft.toml", "--steps", "2", "--name", "hooks", RLKIT_OUTPUT="plain")
        warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: hook")]
        assert len(warnings) == 2, result.stderr
        misspelt = next(line for line in warnings if "acme_misspelt" in line)
        assert "from acme-misspelt 1.2 listens to 'step_finishd'" in misspelt
        full = next(line for line in warnings if "acme_full" in line)
        assert "step_finished of acme-full 1.2 raised ValueError: no disk" in full
        folder = project / "runs" / "hooks"
        assert json.loads((folder / "run.json").read_text())["status"] == "finished"
        assert len((folder / "metrics.jsonl").read_text().splitlines()) >= 2

    def test_no_hostile_plugin_keeps_a_command_waiting(self, installed, project):
        """The sleeping one would take longer than the command is given."""
        run(project, installed, "plugins", "list")


class TestDoctor:
    def test_every_one_is_reported_with_distribution_and_cause(self, installed, project):
        result = run(project, installed, "doctor", "--json", code=3, RLKIT_DISABLED_PLUGINS="acme_sleeps")
        findings = {(item["name"], item["detail"]): item for item in json.loads(result.stdout)}
        states = {name: item["state"] for (name, _), item in findings.items()}
        details = " ".join(detail for _, detail in findings)
        assert states["acme_sleeps"] == "missing"
        for name in ("acme_raises", "acme_twin", "acme_newer", "acme_family"):
            assert states[name] == "wrong"
        for text in ("acme-raises 1.2", "acme-twin-one", "acme-twin-two", "acme-newer 1.2", "acme-family 1.2"):
            assert text in details
        assert states["hf"] == "ok"


class TestDamagedMetadata:
    """What a broken installation leaves in site-packages."""

    @pytest.mark.parametrize(
        ("files", "listed"),
        [
            ({"entry_points.txt": b"[rlkit.hooks]\n\xff\xfe = \x00"}, False),
            ({"entry_points.txt": b"[rlkit.hooks]\nthis line has no value\n"}, False),
            ({"entry_points.txt": b"[rlkit.hooks]\nacme = acme:spec\n"}, False),
            ({"entry_points.txt": b"[rlkit.hooks]\nacme = acme:spec\n", "METADATA": b"Summary: no name\n"}, False),
            ({"entry_points.txt": b"[rlkit.hooks]\nacme = acme:spec\n", "METADATA": b"Name: acme\n"}, True),
            ({"METADATA": b"\xff\xfe", "entry_points.txt": b"rlkit.hooks"}, False),
        ],
        ids=["not text", "no value", "no metadata", "no name", "no version", "nonsense"],
    )
    def test_costs_no_other_plugin(self, tmp_path, files, listed):
        info = tmp_path / "acme-1.0.dist-info"
        info.mkdir()
        for name, content in files.items():
            (info / name).write_bytes(content)
        rows = json.loads(run(tmp_path, tmp_path, "plugins", "list", "--json").stdout)
        assert ("hf", "rlkit-hf") in {(row["name"], row["distribution"]) for row in rows}
        assert ("acme" in {row["name"] for row in rows}) == listed
