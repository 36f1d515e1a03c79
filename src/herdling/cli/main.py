"""The command line: one file a verb, results to stdout, progress and logs to stderr, exit codes 0 done, 1 failed, 2 wrong usage, 130 stopped.

A failure is one message and the next command to type, never a traceback; `HERDLING_TRACEBACK=1` shows one to those who mend herdling. Starts without torch.
"""

from __future__ import annotations

import sys

import typer

from herdling.base.environment import wants_traceback
from herdling.base.errors import HerdlingError, Stopped
from herdling.cli import annotate, chat, convert, fit, new, plan, quickstart, run, serve, show

app = typer.Typer(
    name="herdling",
    help="Raise a Llama: from raw text to a chat model, as the three Llama papers tell it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("quickstart")(quickstart.quickstart)
app.command("new")(new.new)
app.command("run")(run.run)
app.command("show")(show.show)
app.command("chat")(chat.chat)
app.command("annotate")(annotate.annotate)
app.command("convert")(convert.convert)
app.command("serve")(serve.serve)
app.command("plan")(plan.plan)
app.add_typer(fit.app, name="fit")


def main() -> None:
    """Run the command line; turn our errors into a message and an exit code."""
    try:
        app()
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
