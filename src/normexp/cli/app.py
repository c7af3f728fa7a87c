"""The command `normexp`: its verbs, and what becomes of everything that can go wrong.

Exit status: 0 all is well; 1 a check that was asked for failed; 2 the input is wrong, or the work could not be done.
Two more follow older customs: 70 for an error of normexp itself, 141 when the reader of a pipe went away.
"""

import _thread
import io
import logging
import os
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from normexp.base.errors import NormexpError, NormexpWarning
from normexp.cli import audit, bench, demo, evaluate, explain, fit, predict, report, softmax
from normexp.cli.console import discard_stdout, say

BROKEN_PIPE: Final = 141  # 128 + SIGPIPE, what a shell shows for a program that the signal ended
INTERNAL_ERROR: Final = 70  # EX_SOFTWARE of sysexits.h
AGAIN_SECONDS: Final = 0.05  # in which a clean-up ends

app = typer.Typer(
    name="normexp",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for _verb in (fit, predict, evaluate, explain, audit, report, softmax, bench, demo):
    _verb.register(app)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and end.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error, and every warning. Works at any place.")
    ] = False,
) -> None:
    """Softmax classifiers: features or logits in, probabilities that people can act on out.

    \b
    Example, a table of messages with a column "label":
      normexp fit train.csv --target label --text message -o model.nx
      normexp evaluate model.nx test.csv
      normexp predict model.nx new.csv -o predictions.csv

    Exit status: 0 all is well, 1 a check failed, 2 the input is wrong.
    """
    del debug  # taken out of the arguments by run; declared here for the help
    if version:
        from normexp import __version__

        typer.echo(f"normexp {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command; never raises, whatever the command meets.

    Parameters
    ----------
    argv : sequence of str or None
        The arguments after the program's name; None takes them from the process.

    Returns
    -------
    int
        The exit status.

    Examples
    --------
    >>> run(["softmax", "--json", "0", "0"])
    {"temperature": 1.0, "rows": [{"logits": [0.0, 0.0], "probabilities": [0.5, 0.5], ...}]}
    0
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # bars and names in a locale that cannot say them
    sys.unraisablehook = _quiet_interrupt
    arguments, debug = _take_debug(list(sys.argv[1:] if argv is None else argv))
    with warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", NormexpWarning)
            warnings.showwarning = _show_warning
            logging.getLogger("matplotlib").setLevel(logging.ERROR)  # of a cache without a home
        try:
            # skrub makes ~/skrub_data when it is imported, and stops where the home folder takes no files
            os.environ.setdefault("SKB_DATA_DIRECTORY", tempfile.gettempdir())
            status = _invoke(arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            discard_stdout()
            return BROKEN_PIPE
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  (the last door: nobody is shown a traceback unasked)
            if debug:
                traceback.print_exc()
            status, sentence = _explain(error)
            say(sentence)
            try:
                sys.stdout.flush()
            except OSError:  # what is left is what could not be written, as on a full disk
                discard_stdout()
    return status


def _quiet_interrupt(unraisable: Any) -> None:
    """Send a Ctrl-C again that fell into a clean-up, where Python cannot raise it and lets it go."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    again = threading.Timer(AGAIN_SECONDS, _thread.interrupt_main)
    again.daemon = True
    again.start()


def _invoke(arguments: list[str]) -> int:
    """Run the command; a status other than 0 comes as `typer.Exit`.

    typer's own ``main`` would end the process at a closed pipe and take Ctrl-C for itself.
    """
    command = typer.main.get_command(app)
    try:
        with command.make_context("normexp", arguments) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def _explain(error: BaseException) -> tuple[int, str]:
    """Turn an error into an exit status and one sentence."""
    format_message = getattr(error, "format_message", None)  # typer's own errors: wrong options, missing arguments
    if format_message is not None:
        context: Any = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "normexp"
        message = str(format_message()).rstrip(".")
        return 2, f"{message}; see: {path} --help"
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return 2, "interrupted; nothing half-written is left behind."
    if isinstance(error, NormexpError):
        return 2, str(error)
    if isinstance(error, MemoryError):
        return 2, (
            "the memory is not enough for this input; give fewer rows or columns, or free some memory. "
            f"{str(error)[:200]}"
        ).strip()
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename is not None else ""
        return 2, f"{name}{error.strerror or error}; check the path, its permissions and the space on the disk."
    return INTERNAL_ERROR, (
        f"an error that normexp did not expect: {type(error).__name__}: {error}; "
        "run again with --debug and report what it shows."
    )


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Take --debug out of the arguments, wherever it stands before a bare ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [argument for argument in arguments[:end] if argument != "--debug"]
    return kept + arguments[end:], len(kept) < end


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Show a warning of normexp as one line."""
    del category, filename, lineno, file, line
    say(f"warning: {message}")
