"""Options of the commands that load a trained model: which weights, and where to compute."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cavsync.train.choices import DeviceChoice

if TYPE_CHECKING:
    from cavsync.train.embedding.checkpoint import LoadedCheckpoint

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

    def weights(self) -> Path:
        """Raises CavsyncError where --checkpoint is not given and there is no run."""
        from cavsync.train.data.inputs import newest_run

        return self.checkpoint or newest_run(self.root / "runs")

    def load(self, **overrides: Any) -> "LoadedCheckpoint":
        """The model on its device; `overrides` are fields that a published file does not state."""
        from cavsync.train.embedding.checkpoint import LoadedCheckpoint

        return LoadedCheckpoint.load(self.weights(), self.device, **overrides)
