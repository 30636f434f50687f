from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlkit.cli.command_table import COMMANDS
from rlkit.cli.main import load_command
from rlkit.errors import PluginError
from rlkit.pipelines import diagnosis
from rlkit.pipelines.diagnosis import Finding

DOCTOR = next(entry for entry in COMMANDS if entry.name == "doctor")
WIDTH = 100


def run_doctor(*arguments: str):
    """typer.testing takes Typer objects; the command of the lazy table is one level below."""
    import typer

    from rlkit.cli.doctor import doctor

    app = typer.Typer(rich_markup_mode=None)
    app.command()(doctor)
    return CliRunner().invoke(app, list(arguments))


def findings(*wrong: Finding):
    return lambda: iter([Finding("machine", "python", "ok", "3.12.0"), *wrong])


def test_the_report_is_aligned_and_fits_the_screen():
    result = subprocess.run(
        [sys.executable, "-m", "rlkit", "doctor"], capture_output=True, text=True, timeout=120, check=True
    )
    lines = result.stdout.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "machine",
        "libraries",
        "devices",
        "plugins",
        "extras",
    ]
    assert all(len(line) <= WIDTH for line in lines if sys.executable not in line)
    assert f"  ✓ torch            {metadata.version('torch')}" in lines
    for plugin in ("hf", "fsdp", "qwen3", "gsm8k", "console"):
        assert any(line.startswith(f"  ✓ {plugin} ") for line in lines), plugin


def test_the_many_built_in_estimators_and_losses_take_a_line_each():
    found = {finding.name: finding.detail for finding in diagnosis._plugins()}
    assert "grpo" not in found and "ppo_clip" not in found
    folded = sorted(detail.partition(" from ")[0] for name, detail in found.items() if name.endswith(" plugins"))
    assert folded == ["advantage estimator", "policy loss"]


def test_a_broken_estimator_keeps_a_line_of_its_own(monkeypatch):
    describe = diagnosis.describe_plugin

    def with_a_fault(plugin):
        described = describe(plugin)
        return (
            replace(described, problem="advantage estimator 'grpo' is broken") if plugin.name == "grpo" else described
        )

    def counts():
        names = [
            finding.name for finding in diagnosis._plugins() if finding.detail.startswith("advantage estimator from")
        ]
        return [int(name.partition(" ")[0]) for name in names]

    whole = counts()
    monkeypatch.setattr(diagnosis, "describe_plugin", with_a_fault)
    assert counts() == [whole[0] - 1]
    (broken,) = [finding for finding in diagnosis._plugins() if finding.name == "grpo"]
    assert (broken.state, broken.detail) == ("wrong", "advantage estimator 'grpo' is broken")


def test_json_has_the_same_findings(monkeypatch):
    fault = Finding("libraries", "torch", "wrong", "2.0", "pip install 'torch>=2.11'")
    monkeypatch.setattr(diagnosis, "diagnose", findings(fault))
    result = run_doctor("--json")
    content = json.loads(result.stdout)
    assert content[0] == {"topic": "machine", "name": "python", "state": "ok", "detail": "3.12.0", "remedy": ""}
    assert content[1]["remedy"] == "pip install 'torch>=2.11'"
    assert isinstance(result.exception, PluginError)


def test_a_fault_comes_with_its_remedy_and_exit_code_3(monkeypatch):
    fault = Finding("libraries", "torch", "wrong", "2.0", "pip install 'torch>=2.11'")
    monkeypatch.setattr(diagnosis, "diagnose", findings(fault))
    result = run_doctor()
    assert "  ✗ torch            2.0\n                     -> pip install 'torch>=2.11'" in result.stdout
    assert isinstance(result.exception, PluginError)
    assert result.exception.exit_code == 3
    assert str(result.exception) == "not in order: torch"


def test_something_optional_that_is_missing_is_no_fault(monkeypatch):
    monkeypatch.setattr(diagnosis, "diagnose", findings(Finding("extras", "datasets", "missing", "", "pip install x")))
    result = run_doctor()
    assert result.exit_code == 0
    assert "  - datasets" in result.stdout


def test_the_table_names_the_command():
    assert load_command(DOCTOR).help == DOCTOR.summary


class TestDiagnosis:
    @pytest.fixture
    def installed(self, monkeypatch):
        """Function: pretend that exactly these distributions have these versions and requirements."""

        def pretend(versions: dict[str, str], requires: dict[str, list[str]] | None = None) -> list[Finding]:
            def version(name: str) -> str:
                if name not in versions:
                    raise metadata.PackageNotFoundError(name)
                return versions[name]

            monkeypatch.setattr(diagnosis.metadata, "version", version)
            monkeypatch.setattr(diagnosis.metadata, "requires", lambda name: (requires or {}).get(name))
            return list(diagnosis._libraries())

        return pretend

    def named(self, found: list[Finding], name: str) -> Finding:
        return next(finding for finding in found if finding.name == name)

    def test_a_missing_library_says_how_to_get_it(self, installed):
        finding = self.named(installed({}), "transformers")
        assert (finding.state, finding.remedy) == ("wrong", "pip install transformers")

    def test_an_old_library_says_what_is_needed(self, installed):
        finding = self.named(installed({"torch": "2.4.0"}), "torch")
        assert finding.state == "wrong"
        assert finding.detail == "2.4.0, needs 2.11 or newer"

    def test_torchvision_made_for_another_torch_is_named(self, installed):
        versions = {"torch": "2.13.0", "torchvision": "0.20.0"}
        finding = self.named(installed(versions, {"torchvision": ["numpy", "torch==2.5.0"]}), "torchvision")
        assert finding.state == "wrong"
        assert "does not belong to torch 2.13.0" in finding.detail
        assert "pip uninstall torchvision" in finding.remedy

    def test_torchaudio_of_another_build_is_named(self, installed):
        versions = {"torch": "2.13.0+cpu", "torchaudio": "2.13.0+cu130"}
        assert self.named(installed(versions, {"torchaudio": ["torch==2.13.0"]}), "torchaudio").state == "wrong"

    def test_torchvision_made_for_this_torch_is_fine(self, installed):
        versions = {"torch": "2.13.0+cpu", "torchvision": "0.28.0+cpu"}
        found = installed(versions, {"torchvision": ["torch==2.13.0"]})
        assert "torchvision" not in [finding.name for finding in found]

    def test_a_torch_that_cannot_be_imported_is_a_fault_not_a_crash(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        (finding,) = diagnosis._devices()
        assert (finding.name, finding.state) == ("torch", "wrong")

    def test_a_broken_plugin_is_named_with_its_distribution_and_cause(self, tmp_path: Path):
        info = tmp_path / "acme_broken-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-broken\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text("[rlkit.reward_functions]\nacme = acme_broken:spec\n")
        (tmp_path / "acme_broken.py").write_text("raise RuntimeError('no licence')")
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from rlkit.cli.main import main; main()"
        result = subprocess.run([sys.executable, "-c", code, "doctor"], capture_output=True, text=True, timeout=120)
        assert result.returncode == 3
        assert "acme-broken 1.2" in result.stdout
        assert "RuntimeError: no licence" in result.stdout
        assert result.stderr == "error: not in order: acme\n"
        assert "  ✓ hf " in result.stdout


def test_a_missing_sandbox_is_told_with_the_way_to_get_one(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = [found for found in diagnosis._extras() if found.name == "bubblewrap"]
    assert (finding.state, finding.detail) == ("missing", "bubblewrap is not installed")
    assert "apt-get install bubblewrap" in finding.remedy
