"""Options of the commands that load a trained model: which weights, what they do not state, and where to compute."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cavsync.cli.console.overrides import OverridesOption, given_fields
from cavsync.cli.console.paths import PathOrUrl, weights_option
from cavsync.train.choices import DeviceChoice, InferencePrecision

if TYPE_CHECKING:
    from cavsync.pipeline.storage.path import AnyPath
    from cavsync.train.data.run import ChosenCheckpoint
    from cavsync.train.embedding.checkpoint import LoadedCheckpoint
    from cavsync.train.embedding.windows.window_file import WindowFile

RootOption = Annotated[
    Path, typer.Option(envvar="CAVSYNC_ROOT", help="Folder that holds raw/, data/ and runs/.")
]
PrecisionOption = Annotated[
    InferencePrecision,
    typer.Option(
        help="Precision of the model's products; auto is bfloat16 where the device computes it faster, else float32."
    ),
]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Options of all commands that load a trained model."""

    checkpoint: Annotated[
        PathOrUrl | None,
        weights_option(
            help="Run folder or file of weights, or its URL.", show_default="the newest run under ROOT/runs"
        ),
    ] = None
    device: Annotated[
        DeviceChoice, typer.Option(help="Device to compute on; auto takes a GPU if there is one.")
    ] = "auto"
    precision: PrecisionOption = "auto"
    root: RootOption = Path()
    overrides: OverridesOption = None

    def fields(self) -> dict[str, Any]:
        """The fields that --set gives, of the model and of its inputs."""
        return given_fields(self.overrides)

    def weights(self, embedded: "WindowFile | None" = None) -> Path:
        """--checkpoint; without it that which made the file `embedded`, or the newest run's, named on stderr.

        Raises CavsyncError where there is none.
        """
        if self.checkpoint is not None:
            return self._local(self.checkpoint)
        chosen = self.chosen(embedded)
        typer.echo(chosen.sentence, err=True)
        return chosen.weights

    def _local(self, checkpoint: "AnyPath") -> Path:
        """The path itself, or a local copy of the weights at a URL."""
        if isinstance(checkpoint, Path):
            return checkpoint
        from cavsync.train.data.inputs import find_weights

        return find_weights(checkpoint)

    def chosen(self, embedded: "WindowFile | None") -> "ChosenCheckpoint":
        """What is taken where --checkpoint is not given."""
        from cavsync.train.data.run import newest_checkpoint
        from cavsync.train.embedding.windows.embedded_by import embedded_by

        runs = self.root / "runs"
        return newest_checkpoint(runs) if embedded is None else embedded_by(embedded, runs)

    def load(self, embedded: "WindowFile | None" = None) -> "LoadedCheckpoint":
        """The model on its device; without --checkpoint and --set, those that made the file `embedded`."""
        from cavsync.train.embedding.checkpoint import LoadedCheckpoint

        known = {} if embedded is None else embedded.about.get("set", {})
        return LoadedCheckpoint.load(
            self.weights(embedded), self.device, self.precision, **(known | self.fields())
        )
