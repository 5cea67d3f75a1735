"""The command line: one verb a file below `pyctl/verbs`, loaded when it is called.

Global options stand before the verb or behind it. stdout carries data only. Exit codes: 0, 1 for an error, 2 for wrong
usage, and the command's own for `exec`. Whatever goes wrong is one line, `error: ...`, and one that says what to do
next.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from pyctl.failure import Failure
from pyctl.options import Sections
from pyctl.settings import Settings

SECTIONS: dict[str, dict[str, str]] = {
    "The cluster on this host": {
        "up": "start the cluster, and return when its node is ready",
        "down": "end all pods, stop the cluster, leave nothing behind",
        "status": "what runs, where, and how it is",
        "kubeconfig": "print the path of the kubeconfig",
        "image": "list, import, pull, build and remove images",
    },
    "Objects": {
        "apply": "create or change what files describe",
        "get": "list objects, or show some",
        "describe": "tell all about an object, with its events",
        "delete": "delete objects, and wait until they are gone",
        "wait": "wait until a condition holds",
        "events": "what happened, oldest first",
    },
    "Pods": {
        "logs": "print what a container wrote",
        "exec": "run a command in a container",
    },
    "Others": {
        "api-resources": "what kinds the server knows",
        "version": "versions of pyctl and of the server",
    },
}


class Root(Sections):
    """Finds a verb's file by its name; `--help` needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [verb for verbs in SECTIONS.values() for verb in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"pyctl.verbs.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command


@click.command(cls=Root, sections=SECTIONS, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def cli(ctx: click.Context) -> None:
    """A Kubernetes-compatible cluster in Python.

    Start with `pyctl up`, then `pyctl apply -f FILE` and `pyctl get pods`.
    """


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; the exit code."""
    try:
        outcome = cli.main(arguments or ["--help"], prog_name="pyctl", standalone_mode=False, obj=Settings())
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return 2
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "pyctl"
        return _complain(_first_lower(error.format_message()), f"see `{where} --help`", 2)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        return _complain(_first_lower(error.format_message()), "", 1)
    except Failure as failure:
        return _complain(failure.message, failure.hint, failure.code)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough, as with `| head`; the interpreter must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as error:  # what the machine refuses: a full disk, a lost mount, too many open files
        place = f"{error.filename}: " if error.filename else ""
        return _complain(f"{place}{(error.strerror or str(error)).lower()}", "", 1)


def _complain(message: str, hint: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)
    return code


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")


if __name__ == "__main__":
    main()
