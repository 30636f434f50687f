"""The entry point: a lazy table of commands, and errors as one line with an exit code."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from difflib import get_close_matches
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from rlkit import __version__
from rlkit.cli.command import Command
from rlkit.cli.command_table import COMMANDS, CommandEntry
from rlkit.errors import RLKitError, RunInterruptedError

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""

DEBUG_VARIABLE = "RLKIT_DEBUG"

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""A full disk, and a used-up quota."""


class LazyGroup(TyperGroup):
    """Imports a command's module when the command is used, not when its name is listed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [entry.name for entry in COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = next((entry for entry in COMMANDS if entry.name == cmd_name), None)
        return None if entry is None else load_command(entry)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(entry.name, entry.summary) for entry in COMMANDS])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            names = self.list_commands(ctx)
            near = get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"commands: {', '.join(names)}"
            fail(f"unknown command '{name}'; {hint}", 2)
        return super().resolve_command(ctx, args)


def load_command(entry: CommandEntry) -> Any:
    """The command behind a table entry, as Typer's own kind of command."""
    module, _, attribute = entry.target.partition(":")
    target = getattr(importlib.import_module(module), attribute)
    if not isinstance(target, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(entry.name, cls=Command, help=target.__doc__, context_settings=HELP_NAMES)(target)
        target = single
    command = typer.main.get_command(target)
    command.name = entry.name
    return command


HELP_NAMES = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings=HELP_NAMES,
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"rlkit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """LLM post-training from the command line: SFT, PPO, generation and evaluation, made of plugins."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    from rlkit.cluster.environment import set_environment_guards
    from rlkit.cluster.garbage import collect_rarely

    set_environment_guards()  # read when torch is first imported
    collect_rarely()
    if "--debug" in sys.argv:  # wherever it stands: who needs it has just typed the rest
        sys.argv.remove("--debug")
        os.environ[DEBUG_VARIABLE] = "1"
    try:
        app(prog_name="rlkit")
        sys.stdout.flush()
    except RunInterruptedError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except RLKitError as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        leave_quietly()
    except OSError as error:
        if error.errno not in NO_ROOM or os.environ.get(DEBUG_VARIABLE):
            raise
        try:
            sys.stdout.flush()
        except OSError:
            discard_output()
        place = f" ({error.filename})" if error.filename else ""
        fail(f"{error.strerror}{place}; make room, and run the same command again", 1)
    except SystemExit as end:
        # Typer turns a closed pipe into exit code 1.
        if isinstance(end.__context__, BrokenPipeError):
            leave_quietly()
        raise
    raise SystemExit(0)


def leave_quietly() -> NoReturn:
    """Exit after the reader of a pipe (`| head`) has seen enough."""
    discard_output()
    raise SystemExit(0)


def discard_output() -> None:
    """What is still to be written goes nowhere: Python would complain of its loss at the very end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str, exit_code: int) -> NoReturn:
    """One `error:` line for each fault, then exit."""
    from rlkit.cluster.followers import leave_the_first_word

    leave_the_first_word()
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    raise SystemExit(exit_code)
