"""What preparing a clip costs that lies in an archive, against a loose file, and what listing a packed tar costs once.

python -m benchmarks.archives [--clips FOLDER] [--rounds N]
"""

import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

from benchmarks.support import clips as sample_clips
from benchmarks.support import results, timing
from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.plan_row import PlanRow
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.jobs.shard import ShardTask, process_shard

# Every clip lies so often in each archive; the middle one is prepared, so that seek points are needed.
NUM_COPIES, PREPARED = 8, 4
LOOSE, TAR, ZIP, PACKED = "loose files", "tar", "zip, stored", "tar.gz, listed before"
LISTING = "listing the tar.gz, all its clips"
GB = 1e9


def main(clips: Path | None = None, rounds: int = 5) -> None:
    config = PrepareConfig()
    timing.use_one_core()
    with TemporaryDirectory() as name, DecoderProcess() as decoder:
        folder = Path(name)
        rows = sample_clips.plan_rows(clips or sample_clips.synthesised(), config)
        rows = [row for row in rows if decoder.prepare(row, config).state == ClipState.OK]
        archives = packed([Path(str(row.source)) for row in rows], folder)
        known = ArchiveSet(folder, folder / "kept")
        actions = {
            name: partial(prepare_shard, rows, archive, known, config, decoder, folder / "out")
            for name, archive in archives.items()
        }
        actions[LISTING] = lambda: ArchiveSet(folder).content(archives[PACKED])
        costs = timing.in_turns(actions, rounds)
        num_bytes = archives[PACKED].stat().st_size
    title = f"Preparing {len(rows)} clips from archives on one core"
    results.publish("archives", title, _rows(costs, len(rows), num_bytes))


def packed(files: Sequence[Path], folder: Path) -> dict[str, Path]:
    """What is prepared -> an archive of copies of the files, or a folder of them."""
    loose, tar = folder / "loose", folder / "all.tar"
    for copy in range(NUM_COPIES):
        (loose / str(copy)).mkdir(parents=True)
        for file in files:
            shutil.copy(file, loose / str(copy))
    with tarfile.open(tar, "w") as archive:
        archive.add(loose, arcname=".")
    with tarfile.open(folder / "all.tar.gz", "w:gz", compresslevel=6) as archive:
        archive.add(loose, arcname=".")
    with zipfile.ZipFile(folder / "all.zip", "w") as stored:
        for file in sorted(loose.rglob("*.*")):
            stored.write(file, file.relative_to(loose))
    return {LOOSE: loose, TAR: tar, ZIP: folder / "all.zip", PACKED: folder / "all.tar.gz"}


def prepare_shard(
    rows: Sequence[PlanRow],
    archive: Path,
    known: ArchiveSet,
    config: PrepareConfig,
    decoder: DecoderProcess,
    out: Path,
) -> None:
    """The same clips, from that archive or folder, to a shard on disk; the decoder's process runs already."""
    rows = [replace(row, source=f"{archive}/{PREPARED}/{Path(str(row.source)).name}") for row in rows]
    members = known.members(row.source for row in rows)
    task = ShardTask(rows=rows, config=config, paths=DatasetPaths(out), members=members)
    record = process_shard(task, decoder, lambda state: None)
    assert record.states == {"ok": len(rows)}
    shutil.rmtree(out)


def _rows(costs: dict[str, timing.Series], num_clips: int, num_bytes: int) -> list[results.Row]:
    def row(name: str, aim: str = "") -> results.Row:
        ratio = timing.ratio(costs[name].cpu_s, costs[LOOSE].cpu_s)
        values = [seconds / num_clips for seconds in costs[name].cpu_s]
        return results.Row(what=name, values=values, unit="CPU s a clip", ratio=ratio, to=LOOSE, aim=aim)

    listing = [seconds / num_bytes * GB for seconds in costs[LISTING].cpu_s]
    return [
        row(LOOSE),
        row(TAR, "<= 1.05"),
        row(ZIP, "<= 1.05"),
        row(PACKED),
        results.Row(what=LISTING, values=listing, unit="CPU s a GB"),
    ]


if __name__ == "__main__":
    typer.run(main)
