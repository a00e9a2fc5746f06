"""The command `mrcnn`: finds the verb, and shows errors in one line.

click reads the command line: a small library that has been kept for ten years, and whose exceptions
have public names, so that each error can be one line with the right exit status. typer adds types
to it, but hides these exceptions.

Exit status: 0 done; 1 failed; 2 the command line is wrong; 3 done, but some inputs could not be
read; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Sequence
from typing import NamedTuple

import click

from mrcnn.cli.console import DEBUG, say_error, set_up_messages
from mrcnn.messages import did_you_mean, shortened

FAILED, WRONG_USAGE, SOME_UNREADABLE, STOPPED = 1, 2, 3, 130
# Errors whose text is written for users. Others are faults of the package.
EXPECTED = (ValueError, OSError, ImportError, FloatingPointError, NotImplementedError)


class Verb(NamedTuple):
    """Where a verb is, and what it does; the file is imported when it is called."""

    module: str
    help: str


VERBS = {
    "train": Verb("mrcnn.cli.train", "Train on labelled images."),
    "detect": Verb("mrcnn.cli.detect", "Find objects in images, and write them to files."),
    "evaluate": Verb("mrcnn.cli.evaluate", "Compare detections with labels."),
    "inspect": Verb("mrcnn.cli.inspect", "Look at data, a network, weights or runs in pictures."),
    "convert": Verb("mrcnn.cli.convert", "Write labels in another format."),
    "info": Verb("mrcnn.cli.info", "Show versions, devices and speed, or what a run was."),
}


class _Verbs(click.Group):
    """The verbs; only the one that is called is imported, so `--help` comes at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(VERBS[cmd_name].module), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise click.UsageError(
                f"there is no verb {args[0]!r}; there are {', '.join(VERBS)}."
                + did_you_mean(args[0], VERBS),
                ctx,
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="mrcnn VERB --help explains a verb.",
)
@click.version_option(
    package_name="mask-rcnn-keras3", prog_name="mrcnn", message="%(prog)s %(version)s"
)
def mrcnn() -> None:
    """Mask R-CNN: from labelled images to a table of objects."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what a command line says.

    Args:
        arguments: the words after `mrcnn`; None for those of this process.

    Returns:
        The exit status.
    """
    set_up_messages()
    try:
        status = mrcnn.main(arguments, prog_name="mrcnn", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return WRONG_USAGE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "mrcnn"
        say_error(f"{error.format_message()} See {command} --help.")
        return WRONG_USAGE
    except click.ClickException as error:
        say_error(error.format_message())
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say_error("stopped.")
        return STOPPED
    except Exception as error:
        if DEBUG.is_set():
            traceback.print_exc()
        say_error(_in_one_line(error))
        return FAILED
    return status if isinstance(status, int) else 0


def _in_one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        # An error of the operating system, such as a folder that is not writable.
        return f"{error.filename}: {error.strerror.lower()}; choose another path, or change it."
    if isinstance(error, EXPECTED) and str(error):
        return shortened(error, 2000)
    return (
        f"unexpected {type(error).__name__}: {shortened(error, 300)}; --debug shows the traceback."
    )
