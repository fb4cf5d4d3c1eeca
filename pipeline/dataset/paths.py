"""Paths of a dataset's files, and the parts of a shard's name."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from cavsync.pipeline.storage.path import AnyPath, as_path
from cavsync.pipeline.storage.remote_path import RemotePath

SUMMARY_NAME = "dataset.json"


# "train-00000"; "train-00000r2" for the second round of retries.
SHARD_NAME = re.compile(r"(?P<split>.+)-(?P<number>\d{5,})(?P<round>r\d+)?")


@dataclass(frozen=True)
class DatasetPaths:
    """Paths of the files in a dataset's folder."""

    root: AnyPath

    @property
    def summary(self) -> AnyPath:
        return self.root / SUMMARY_NAME

    @property
    def plan(self) -> AnyPath:
        return self.root / "plan.parquet"

    def retry_plan(self, number: int) -> AnyPath:
        return self.root / f"plan-r{number}.parquet"

    @property
    def archives(self) -> AnyPath:
        """What the archives hold that the videos lie in."""
        return self.root / "archives"

    def tar(self, shard: str) -> AnyPath:
        return self.root / "shards" / f"{shard}.tar"

    def index(self, shard: str) -> AnyPath:
        return self.root / "index" / f"{shard}.parquet"

    def done(self, shard: str) -> AnyPath:
        return self.root / "done" / f"{shard}.json"


def moved_path(path: str, before: str, now: str) -> str:
    """The path or URL with the folder `now` in place of the folder `before`; unchanged where it is not below that."""
    if not path.startswith(f"{before}/"):
        return path
    below, folder = path.removeprefix(f"{before}/"), as_path(before)
    if isinstance(folder, RemotePath) and folder.is_http:
        below = unquote(below)
    return str(as_path(now) / below)


def split_of(shard: str) -> str:
    return _parts(shard)["split"]


def shard_number(shard: str) -> int:
    return int(_parts(shard)["number"])


def is_retry(shard: str) -> bool:
    """Whether the shard belongs to a retry: it holds new results of clips that failed in other shards."""
    return _parts(shard)["round"] is not None


def retry_round(shard: str) -> int:
    """0 for a shard of the plan, n for one of the n-th retry."""
    return int((_parts(shard)["round"] or "r0").removeprefix("r"))


def _parts(shard: str) -> re.Match[str]:
    match = SHARD_NAME.fullmatch(shard)
    if match is None:
        raise ValueError(
            f"{shard!r} is no name of a shard; names are like train-00000, or train-00000r1 in a retry."
        )
    return match
