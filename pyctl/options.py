"""Shapes that the verbs share: options that every verb has, and help in sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from pyctl.settings import Settings

GLOBAL_OPTIONS = {
    "data_dir": (["--data-dir"], "DIR", "The cluster's directory [env PYCTL_DATA_DIR; default /var/lib/pyctl]."),
    "kubeconfig": (["--kubeconfig"], "FILE", "The kubeconfig to use [env KUBECONFIG; default DIR/kubeconfig]."),
    "namespace": (["-n", "--namespace"], "NAME", "The namespace to work in [default: the kubeconfig's]."),
}


def _remember(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        settings = ctx.ensure_object(Settings)
        setattr(settings, str(parameter.name), value)


def _global_options() -> list[click.Parameter]:
    return [
        click.Option([*flags, name], metavar=metavar, help=text, expose_value=False, callback=_remember, is_eager=True)
        for name, (flags, metavar, text) in GLOBAL_OPTIONS.items()
    ]


class _Globals:
    """Adds the global options to a click command, and tells them apart in its help."""

    params: list[click.Parameter]

    def _add_globals(self) -> None:
        self.params = [*self.params, *_global_options()]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        everywhere: list[tuple[str, str]] = []
        assert isinstance(self, click.Command)
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                (everywhere if parameter.name in GLOBAL_OPTIONS or "--help" in parameter.opts else own).append(record)
        for title, records in (("Options", own), ("Everywhere", everywhere)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Verb(_Globals, click.Command):
    """A verb: a click command with the global options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._add_globals()


class Sections(_Globals, click.Group):
    """A group whose help lists its commands in sections, from a table, without loading them."""

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._add_globals()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, verbs in self._sections.items():
            with formatter.section(title):
                formatter.write_dl(list(verbs.items()))
        super().format_options(ctx, formatter)


def verb(**attributes: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a verb; its first argument is the `Settings`."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        return click.command(cls=Verb, **attributes)(click.pass_obj(function))

    return decorate
