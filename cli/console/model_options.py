"""Options of the commands that load a trained model: which weights, and where to compute."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cavsync.train.choices import DeviceChoice

if TYPE_CHECKING:
    from cavsync.train.data.run import ChosenCheckpoint
    from cavsync.train.embedding.checkpoint import LoadedCheckpoint
    from cavsync.train.embedding.window_file import WindowFile

RootOption = Annotated[
    Path, typer.Option(envvar="CAVSYNC_ROOT", help="Folder that holds raw/, data/ and runs/.")
]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Options of all commands that load a trained model."""

    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Run folder or file of weights.", show_default="the newest run under ROOT/runs"),
    ] = None
    device: Annotated[
        DeviceChoice, typer.Option(help="Device to compute on; auto takes a GPU if there is one.")
    ] = "auto"
    root: RootOption = Path()

    def weights(self, embedded: "WindowFile | None" = None) -> Path:
        """--checkpoint; without it that which made the file `embedded`, or the newest run's, named on stderr.

        Raises CavsyncError where there is none.
        """
        if self.checkpoint is not None:
            return self.checkpoint
        chosen = self.chosen(embedded)
        typer.echo(chosen.sentence, err=True)
        return chosen.weights

    def chosen(self, embedded: "WindowFile | None") -> "ChosenCheckpoint":
        """What is taken where --checkpoint is not given."""
        from cavsync.train.data.run import newest_checkpoint
        from cavsync.train.inference.embedded_by import embedded_by

        runs = self.root / "runs"
        return newest_checkpoint(runs) if embedded is None else embedded_by(embedded, runs)

    def load(self, embedded: "WindowFile | None" = None, **overrides: Any) -> "LoadedCheckpoint":
        """The model on its device; `overrides` are fields that a published file does not state.

        Of the file `embedded` both are known, where they are not given.
        """
        from cavsync.train.embedding.checkpoint import LoadedCheckpoint

        known = {} if embedded is None else embedded.about.get("set", {})
        return LoadedCheckpoint.load(self.weights(embedded), self.device, **(known | overrides))
