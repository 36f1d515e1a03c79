"""The command line: one file a verb, results to stdout, progress and logs to stderr, exit codes 0 done, 1 failed, 2 wrong usage, 130 stopped.

A failure is one message and the next command to type, never a traceback; `HERDLING_TRACEBACK=1` shows one to those who mend herdling. Starts without torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module

import typer

from herdling.base.environment import wants_traceback
from herdling.base.errors import HerdlingError, Stopped

VERBS = ("quickstart", "new", "run", "show", "chat", "annotate", "convert", "serve", "plan", "fit")
"""Each a file of this folder with a function of its name; of `fit`, whose verbs have verbs, an `app`."""


def command_line(verbs: Iterable[str] = VERBS) -> typer.Typer:
    """Return the command line with these verbs. Only their files are imported: one verb starts in half the time of all."""
    built = typer.Typer(
        name="herdling",
        help="Raise a Llama: from raw text to a chat model, as the three Llama papers tell it.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        callback=lambda: None,  # with one verb, too, it has to be named
    )
    for verb in verbs:
        module = import_module(f"herdling.cli.{verb}")
        if hasattr(module, "app"):
            built.add_typer(module.app, name=verb)
        else:
            built.command(verb)(getattr(module, verb))
    return built


def __getattr__(name: str) -> typer.Typer:
    """Build `app`, all verbs, for who asks for it."""
    if name != "app":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return command_line()


def main() -> None:
    """Run the command line; turn our errors into a message and an exit code."""
    named = [verb for verb in sys.argv[1:2] if verb in VERBS]
    try:
        command_line(named or VERBS)()
    except HerdlingError as error:
        if wants_traceback():
            raise
        stopped = isinstance(error, Stopped)
        sys.stderr.write(f"{'stopped' if stopped else 'error'}: {error}\n")
        if error.next_command and error.next_command not in str(error):
            sys.stderr.write(f"next: {error.next_command}\n")
        raise SystemExit(130 if stopped else 1) from None
    except KeyboardInterrupt:
        sys.stderr.write("stopped at once; what was finished is kept, and the same command goes on\n")
        raise SystemExit(130) from None
