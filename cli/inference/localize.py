"""`cavsync localize`: where in a video a sound comes from."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cavsync.cli.console.overrides import OverridesOption, given_fields
from cavsync.cli.evaluate.maps import Map, MapsOption, Similarity, SimilarityOption, Sound, SoundOption
from cavsync.cli.evaluate.options import CheckpointOption, DeviceOption, JsonOption, RootOption


def localize(
    video: Annotated[Path, typer.Argument(help="A video of any length.")],
    sound: Annotated[
        Path | None,
        typer.Option(
            help="Find this sound (of a file of sound, or a video) instead of the video's own.",
            show_default=False,
        ),
    ] = None,
    checkpoint: CheckpointOption = None,
    maps: MapsOption = [Map.MASKED_VIEW],  # noqa: B006 (Typer copies it)
    compared_with: SoundOption = Sound.TOKENS,
    similarity: SimilarityOption = Similarity.DOT,
    step: Annotated[
        float | None,
        typer.Option(min=0.01, help="Seconds from map to map.", show_default="half a window"),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="Prepared dataset, or file of `cavsync embed`, whose pairs of picture and sound decide from which likeness "
            "on a sound may come from a picture; by default the run's own test clips.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write; by default localized-VIDEO here.", show_default=False),
    ] = None,
    overrides: OverridesOption = None,
    device: DeviceOption = "auto",
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Show where in a video a sound comes from, or that nothing there sounds like it: a film with the sound, pictures, arrays."""
    from cavsync.cli.console.progress import counting
    from cavsync.train.data.inputs import newest_run
    from cavsync.train.embedding.checkpoint import LoadedCheckpoint
    from cavsync.train.embedding.embedder import Embedder
    from cavsync.train.evaluation.heatmaps.heatmap import MapConfig
    from cavsync.train.inference.calibration import calibrate as calibrate_by
    from cavsync.train.inference.localize import localize as find
    from cavsync.train.inference.localize_report import OVERLAY, PAGE, warnings_of, write_localized

    weights = checkpoint or newest_run(root / "runs")
    embedder = Embedder(LoadedCheckpoint.load(weights, device, **given_fields(overrides)), step)
    config = MapConfig(sound=compared_with.value, similarity=similarity.value)
    with counting("calibrating", "clips", quiet=as_json) as on_clip:
        calibration = calibrate_by(embedder, calibrate, on_clip)
    with counting("mapping", "s", quiet=as_json) as on_second:
        found = find(embedder, video, sound, [route.value for route in maps], config, calibration, on_second)
    folder = out or Path(f"localized-{video.stem}")
    with counting("film", "s", quiet=as_json) as on_second:
        record = write_localized(found, folder, on_second)
    for line in warnings_of(found):
        typer.secho(f"Warning: {line}.", fg=typer.colors.YELLOW, err=True)
    if as_json:
        typer.echo(json.dumps(record))
        return
    typer.echo(found.sentence)
    typer.echo(f"Film: {folder / OVERLAY}\nReport: {folder / PAGE}")
