from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rlkit.cli.init import init
from rlkit.errors import ConfigError


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer(rich_markup_mode=None)
    made.command()(init)
    return made


def run(app: typer.Typer, *arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_new_project_ends_with_the_commands_to_type(app: typer.Typer, tmp_path: Path) -> None:
    target = tmp_path / "demo"
    output = run(app, str(target))
    assert (target / "ppo.toml").is_file()
    assert f"created {target} from template quickstart" in output
    assert f"  cd {target}\n" in output
    assert "  rlkit sft sft.toml\n" in output


def test_template_and_settings_are_chosen_by_option(app: typer.Typer, tmp_path: Path) -> None:
    run(app, str(tmp_path / "demo"), "--template", "grpo", "--set", "model=some/model=x")
    assert 'path = "some/model=x"' in (tmp_path / "demo" / "grpo.toml").read_text()


def test_the_list_names_templates_and_settings(app: typer.Typer) -> None:
    output = run(app, "--list")
    for name in (
        "quickstart",
        "sft",
        "ppo",
        "grpo",
        "plugin-reward",
        "plugin-algorithm",
        "plugin-engine",
        "plugin-model",
        "plugin-backend",
    ):
        assert any(line.startswith(name) for line in output.splitlines())
    assert "--set model=..." in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "needs a NAME"),
        (("x", "--template", "quickstrt"), "Did you mean 'quickstart'"),
        (("x", "--template", "ppo", "--set", "model"), "expected KEY=VALUE"),
    ],
)
def test_mistakes_are_one_clear_line(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message) as caught:
        run(app, *arguments)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
