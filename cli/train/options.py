"""Options of the commands of `cavsync train`, each defined once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cavsync.errors import CavsyncError
from cavsync.model.classifier_config import Modality
from cavsync.train.choices import DeviceChoice

if TYPE_CHECKING:
    from cavsync.train.finetune.config import FinetuneConfig
    from cavsync.train.pretrain.config import PretrainConfig

C = TypeVar("C", "PretrainConfig", "FinetuneConfig")

PresetOption = Annotated[str, typer.Option(help="Preset to start from; `cavsync config show` lists them.")]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options that all commands of `cavsync train` have."""

    data: Annotated[
        str | None,
        typer.Option(
            help="Dataset folder that `cavsync prepare` made, or its URL.",
            show_default="ROOT and the preset's path",
        ),
    ] = None
    root: Annotated[Path, typer.Option(envvar="CAVSYNC_ROOT", help="Folder that holds data/ and runs/.")] = (
        Path()
    )
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Set a field of the configuration, e.g. optimizer.lr=1e-4; may be given several times.",
        ),
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the run folder.")] = False
    device: Annotated[
        DeviceChoice, typer.Option(help="Device to train on; auto takes a GPU if there is one.")
    ] = "auto"
    num_workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes that load and decode data.", show_default="the preset's"),
    ] = None
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line for each step instead of a progress bar.")
    ] = False

    def resolve(self, preset_named: Callable[[str], C], preset: str, assignments: Sequence[str] = ()) -> C:
        """The preset with the fields that the options stand for; `assignments` are those of a command's own options.

        --set is applied last. An unknown preset or field is wrong usage.
        """
        from cavsync.train.engine.config import ConfigError
        from cavsync.train.engine.overrides import apply_overrides

        try:
            config = preset_named(preset)
            path = self.data if self.data is not None else self.root / config.data.path
            shared: list[str] = [f"data.path={path}", *assign("data.num_workers", self.num_workers)]
            return apply_overrides(config, [*shared, *assignments, *(self.overrides or [])])
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions:
    """Options that `finetune` and `probe` share."""

    initial_weights: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Run folder or checkpoint, cavsync's or a published one, whose encoders the training starts from.",
        ),
    ] = None
    run: Annotated[
        Path | None,
        typer.Option(
            help="Run folder to make, or to continue with --resume.", show_default="ROOT/runs/PRESET"
        ),
    ] = None
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the clips.", show_default="the preset's")
    ] = None
    modality: Annotated[
        Modality | None,
        typer.Option(help="Inputs of the classifier: audio, image or both.", show_default="the preset's"),
    ] = None

    def assignments(self) -> list[str]:
        """The fields that the options stand for. The preset's range of averaged epochs fits its own length only."""
        length = [] if self.epochs is None else [f"num_epochs={self.epochs}", "average_epochs=none"]
        return [
            *assign("initial_weights", self.initial_weights),
            *length,
            *assign("head.modality", self.modality),
        ]


def assign(field: str, value: Any) -> list[str]:
    """The assignment that an option stands for, if it was given."""
    return [] if value is None else [f"{field}={value}"]


def require_dataset(path: str, example: str) -> None:
    """Raises CavsyncError, before anything heavy is imported, where `path` holds no dataset; a URL is not looked up.

    `example` completes the command `cavsync prepare` that would make one.
    """
    summary = Path(path) / "dataset.json"
    if "://" not in path and not summary.is_file():
        raise CavsyncError(
            f"No dataset to train on: {summary} does not exist (looked for in {Path(path).absolute()}). "
            f"Make it with `cavsync prepare {example}`, or give the folder of another one with --data."
        )
