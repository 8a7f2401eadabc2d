"""`polycdn`: picks the command and turns every expected failure into one message and an exit code.

Exit codes: 0 fine; 1 ran, and found a problem; 2 usage or config error; 3 could not run; 130 interrupted.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final

from polycdn.errors import PolycdnError

if TYPE_CHECKING:
    import typer

LEAN: Final = {
    "edge": ("polycdn.cli.engine_command", "edge"),
    "dns": ("polycdn.cli.engine_command", "dns"),
    "vantage": ("polycdn.cli.vantage_command", "vantage"),
}
"""Long-running processes that must start fast and small: they take argv and skip the rest of this program."""

GROUPS: Final = (
    "polycdn.cli.demo_commands",
    "polycdn.cli.config_commands",
    "polycdn.cli.probe_command",
    "polycdn.cli.parity_command",
    "polycdn.cli.up_commands",
    "polycdn.cli.operator_commands",
    "polycdn.cli.purge_command",
    "polycdn.cli.simulate_commands",
    "polycdn.cli.blast_command",
    "polycdn.cli.journal_commands",
    "polycdn.cli.audit_commands",
    "polycdn.cli.data_commands",
)
"""Modules that add their commands by `register(app)`, in the order of the help page."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command and exits the process with its code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = run_command(words)
    except PolycdnError as error:
        print(f"polycdn: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        code = 1
    sys.exit(code)


def run_command(words: list[str]) -> int:
    """The exit code of one command line; raises PolycdnError for what `main` reports."""
    if words[:1] in (["--version"], ["version"]):
        from importlib.metadata import version

        print(f"polycdn {version('polycdn')}")
        return 0
    if words and words[0] in LEAN:
        module, name = LEAN[words[0]]
        command: Callable[[list[str]], int] = getattr(import_module(module), name)
        return command(words[1:])
    return run_typer(words)


def run_typer(words: list[str]) -> int:
    """The exit code of a command that Typer parses."""
    import typer
    from typer.exceptions import TyperException

    if words[0:1] == ["simulate"] and "--years" in words:
        after = words.index("--years") + 1
        if words[after : after + 1] in ([], *([word] for word in words if word.startswith("-"))):
            words = [*words[:after], "10000", *words[after:]]  # an option whose value may be left out
    try:
        result = typer_app()(args=words, prog_name="polycdn", standalone_mode=False)
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort:
        return 130
    except TyperException as error:
        message = error.format_message()
        if message.startswith("Usage:"):  # a group without its command: the help is the answer
            print(message, file=sys.stderr)
            return 2
        is_unknown = message.startswith("No such command") and len(words) == 1
        command = (
            "polycdn" if is_unknown or not words[:1] or words[0].startswith("-") else f"polycdn {words[0]}"
        )
        print(f"{command}: {message} Try: {command} --help", file=sys.stderr)
        return 2
    return result if isinstance(result, int) else 0


def typer_app() -> "typer.Typer":
    """The whole program as a Typer application."""
    import typer

    app = typer.Typer(
        name="polycdn",
        help="Keep a service up when the company that carries its traffic goes down.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        epilog="Long-running parts, started by `up`: edge, dns, vantage.",
    )
    app.callback()(_root)
    for group in GROUPS:
        import_module(group).register(app)
    return app


def _root() -> None:
    """Keep a service up when the company that carries its traffic goes down."""
