"""Options of the commands of `cavsync train`, each defined once."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cavsync.cli.console.paths import PathOrUrl, path_option
from cavsync.errors import CavsyncError
from cavsync.model.classifier_config import Modality
from cavsync.train.choices import DeviceChoice

if TYPE_CHECKING:
    from cavsync.pipeline.storage.path import AnyPath
    from cavsync.train.finetune.config import FinetuneConfig
    from cavsync.train.pretrain.config import PretrainConfig

C = TypeVar("C", "PretrainConfig", "FinetuneConfig")


def preset_option(default: str) -> Any:
    """The option --preset of a command whose preset is `default`."""
    return typer.Option(help="Preset to start from; `cavsync config show` lists them.", show_default=default)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options that all commands of `cavsync train` have."""

    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Dataset folder that `cavsync prepare` made, or its URL; several to train on together, each with --data.",
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
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Clips in a step, over all processes.", show_default="the preset's"),
    ] = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run in the run folder, with its configuration; what is given beside changes it where "
            "that is possible, such as its length.",
        ),
    ] = False
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
            usual: list[str] = [str(self.root / path) for path in config.data.paths]
            given = [*assign_paths(self.data or usual), *self._assignments(assignments)]
            changed = apply_overrides(config, given)
            return with_absolute_paths(changed)
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from error

    def resumed(
        self, kind: type[C], folder: "AnyPath", preset: str | None, assignments: Callable[[C], Sequence[str]]
    ) -> C:
        """The configuration of the run in `folder`, with what the options change; `assignments` are those of a command.

        Raises RunError where there is no such run, or an option would change what it computes.
        """
        from cavsync.train.engine.config import ConfigError
        from cavsync.train.engine.overrides import apply_overrides
        from cavsync.train.engine.run_folder import RunError, read_config, require_resumable, stored_fields

        fields = stored_fields(folder)
        started_by = "pretrain" if "head" not in fields else "probe" if fields.get("frozen") else "finetune"
        if ("head" in fields) != ("head" in kind.__dataclass_fields__):
            raise RunError(
                f"{folder} was started by `cavsync train {started_by}`, and is resumed by: cavsync train {started_by} "
                f"--resume --run {folder}"
            )
        config: C = read_config(folder, kind)
        given = [*assign("preset", preset), *assign_paths(self.data or ()), *assignments(config)]
        try:
            changed = with_absolute_paths(apply_overrides(config, self._assignments(given)), stored=config)
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from error
        require_resumable(folder, config, changed)
        for path in changed.data.paths:
            require_dataset(path, f"{folder} is trained on it; where it is now, --data DIR says.")
        return changed

    def _assignments(self, of_command: Sequence[str]) -> list[str]:
        """The fields that the options stand for; --set is applied last."""
        shared = [*assign("data.num_workers", self.num_workers), *assign("batch_size", self.batch_size)]
        return [*shared, *of_command, *(self.overrides or [])]


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
    initial_fields: Annotated[
        list[str] | None,
        typer.Option(
            "--from-set",
            metavar="FIELD=VALUE",
            help="Field that the published file of --from does not state, as --set of the evaluations: num_heads=4, "
            "mel_mean=-5.1. May be given several times.",
        ),
    ] = None
    run: Annotated[
        PathOrUrl | None,
        path_option(
            help="Run folder to make, or to continue with --resume; or its URL, such as s3://BUCKET/NAME.",
            show_default="ROOT/runs/PRESET",
        ),
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs; each takes every clip once.", show_default="the preset's"),
    ] = None
    modality: Annotated[
        Modality | None,
        typer.Option(help="Inputs of the classifier: audio, image or both.", show_default="the preset's"),
    ] = None

    def assignments(self, resumed: "FinetuneConfig | None" = None) -> list[str]:
        """The fields that the options stand for.

        The preset's range of averaged epochs fits its own length only; that of a `resumed` run follows its end.
        """
        averaged = None if resumed is None or self.epochs is None else resumed.average_of(self.epochs)
        listed = "none" if averaged is None else f"{averaged[0]},{averaged[1]}"
        length = [] if self.epochs is None else [f"num_epochs={self.epochs}", f"average_epochs={listed}"]
        return [
            *assign("initial_weights", self.initial_weights),
            *assign("initial_fields", ",".join(self.initial_fields) if self.initial_fields else None),
            *length,
            *assign("head.modality", self.modality),
        ]


def assign(field: str, value: Any) -> list[str]:
    """The assignment that an option stands for, if it was given."""
    return [] if value is None else [f"{field}={value}"]


def assign_paths(paths: Sequence[str]) -> list[str]:
    """The assignment of the datasets at `paths`, if there are any; a single one is no list."""
    if len(paths) == 1 and not paths[0].startswith(("[", "(")):
        return [f"data.path={paths[0]}"]
    quoted = ", ".join('"{}"'.format(path.replace('"', '""')) for path in paths)
    return [f"data.path=[{quoted}]"] if paths else []


def with_absolute_paths(config: C, stored: C | None = None) -> C:
    """`config` with paths that lead from every current folder to its datasets and initial weights.

    A path that the `stored` configuration has too stays as it is, and so do URLs and weights that are named otherwise, as timm's.
    """
    from cavsync.train.engine.overrides import apply_overrides

    given = []
    if stored is None or config.data.path != stored.data.path:
        given = assign_paths(
            [path if "://" in path else str(Path(path).absolute()) for path in config.data.paths]
        )
    weights = config.initial_weights
    if weights is not None and weights != (stored and stored.initial_weights) and Path(weights).exists():
        given.append(f"initial_weights={Path(weights).absolute()}")
    return apply_overrides(config, given)


def require_dataset(path: str, way_out: str | None = None) -> None:
    """Raises CavsyncError, before anything heavy is imported, where `path` holds no dataset; a URL is not looked up.

    The way out is by default the command that makes the dataset.
    """
    folder = Path(path)
    summary = folder / "dataset.json"
    if "://" not in path and not summary.is_file():
        made_of = folder.name if folder.name in ("audioset", "vggsound") else "folder VIDEOS"
        command = f"prepare {made_of} --out {shlex.quote(path)}"
        way_out = (
            way_out or f"Make it with `cavsync {command}`, or give the folder of another one with --data."
        )
        raise CavsyncError(
            f"No dataset to train on: {summary} does not exist (looked for in {folder.absolute()}). {way_out}"
        )


def require_writable_run(folder: "AnyPath") -> None:
    """Raises CavsyncError where no run can be written to the folder, or at a URL of HTTP."""
    from cavsync.pipeline.storage.writable import require_writable_folder

    if isinstance(folder, Path):
        require_writable_folder(folder, "give another with --run")
    else:
        folder.require_writable()
