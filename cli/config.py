"""`cavsync config`: the presets and their fields."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

if TYPE_CHECKING:
    from cavsync.train.engine.config import RunConfig

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Show the presets of trainings and their fields."""


@app.command()
def show(
    preset: Annotated[
        str | None, typer.Option(help="Preset to print; without it the presets are listed.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Set a field, e.g. optimizer.lr=1e-4; may be given several times.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, as the run folder's config.json has it.")
    ] = False,
) -> None:
    """Print all fields of a preset and what each means, or list the presets."""
    if preset is None:
        _list_presets(as_json)
        return
    config = resolved(preset, overrides or [])
    from cavsync.cli.console.field_descriptions import described_fields
    from cavsync.train.engine.config import as_dict

    content = as_dict(config)
    if as_json:
        typer.echo(json.dumps(content, indent=1))
    else:
        tree = Tree(f"[bold]{preset}")
        _grow(tree, content, described_fields(config))
        Console().print(tree)
        typer.echo(
            f"Needs {content['batch_size']:,} clips or more in the split {content['data']['split']!r}, because a step takes "
            f"{content['batch_size']:,}; with fewer, give the number that you have: --batch-size N"
        )


def resolved(preset: str, overrides: list[str]) -> "RunConfig":
    """The preset with its overrides; an unknown preset or field is wrong usage."""
    from cavsync.train.engine.config import ConfigError
    from cavsync.train.engine.overrides import apply_overrides, nearest

    makers = _makers()
    try:
        if preset not in makers:
            raise ConfigError(f"There is no preset {preset!r}{nearest(preset, makers)}")
        return apply_overrides(makers[preset](), overrides)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


def _makers() -> "dict[str, Callable[[], RunConfig]]":
    """What makes each preset, of pretraining and of classifiers, by name."""
    from cavsync.train.finetune.presets import FINETUNE_PRESETS
    from cavsync.train.pretrain.presets import PRESETS

    return {**PRESETS, **FINETUNE_PRESETS}


def _list_presets(as_json: bool) -> None:
    makers = _makers()
    summaries = {name: (make.__doc__ or "").splitlines()[0] for name, make in makers.items()}
    if as_json:
        typer.echo(json.dumps(summaries, indent=1))
        return
    table = Table("preset", "clips needed", "starts from", "description", box=None)
    table.columns[1].justify = "right"
    for name, summary in summaries.items():
        config = makers[name]()
        table.add_row(name, f"{config.batch_size:,}", _start(config), summary)
    Console().print(table)
    typer.echo(
        "Clips needed: those of one step. With fewer clips, train with --batch-size N.\n"
        "All fields of a preset: --preset NAME. Beside its authors' recipe: docs/recipes.md."
    )


def _start(config: "RunConfig") -> str:
    """The weights that a run starts from, in a word."""
    from cavsync.model.checkpoints.timm_weights import IMAGENET_MAE
    from cavsync.train.pretrain.config import PretrainConfig

    if not isinstance(config, PretrainConfig):
        return "--from"
    words = {None: "random weights", IMAGENET_MAE: "ImageNet-MAE"}
    return words.get(config.initial_weights, str(config.initial_weights))


def _grow(tree: Tree, content: dict[str, Any], descriptions: Mapping[str, str], prefix: str = "") -> None:
    for name, value in content.items():
        description = f"  [dim]{escape(descriptions[prefix + name])}"
        if isinstance(value, dict):
            group = tree.add(f"[bold]{name}[/]{description}")
            _grow(group, value, descriptions, f"{prefix}{name}.")
        else:
            shown = "none" if value is None else json.dumps(value)
            tree.add(f"{name} = {escape(shown)}{description}")
