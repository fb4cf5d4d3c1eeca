"""Descriptions of datasets: `cavsync/manifests/*.toml`, one a dataset."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from cavsync.pipeline.errors import CavsyncError

COLUMNS = {"id", "file", "start_s", "end_s", "label", "labels", "split"}


class ManifestError(CavsyncError):
    """A dataset description that is not there or not right."""


@dataclass(frozen=True, kw_only=True)
class ListSpec:
    """One list file: its columns in order, from `COLUMNS`."""

    file: str
    columns: tuple[str, ...]
    split: str = ""  # of all its rows, where no column tells
    splits: tuple[str, ...] = ()  # the names that a split column may hold
    count: int | None = None  # rows of the official file
    read_by_default: bool = True
    comes_from: str = ""


@dataclass(frozen=True, kw_only=True)
class LabelSpec:
    """The CSV (header index,mid,display_name) that orders the classes."""

    file: str
    count: int
    comes_from: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A dataset: its lists, the role of each split, its labels, and the mel statistics that papers use."""

    name: str
    title: str
    homepage: str
    licence: str
    splits: Mapping[str, str]  # name -> role
    lists: tuple[ListSpec, ...]
    labels: LabelSpec | None
    mel_mean: float
    mel_std: float

    def spec_for(self, file: str, num_columns: int) -> ListSpec:
        """How to read a list: by its name, else by its number of columns."""
        named = [spec for spec in self.lists if spec.file == file]
        shaped = [spec for spec in self.lists if len(spec.columns) == num_columns]
        if not named and not shaped:
            layouts = "; ".join(f"{spec.file}: {', '.join(spec.columns)}" for spec in self.lists)
            raise ManifestError(
                f"{file} has {num_columns} columns, which no list of {self.title} has ({layouts})."
            )
        return (named or shaped)[0]


def load_manifest(name: str) -> Manifest:
    """The description that ships under `name`. Raises ManifestError, which lists the names, for another."""
    folder = resources.files("cavsync.manifests")
    names = sorted(
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    )
    if name not in names:
        raise ManifestError(f"no dataset is described as {name!r}; there are: {', '.join(names)}.")
    return parse_manifest(tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8")))


def parse_manifest(content: dict[str, Any]) -> Manifest:
    splits = content["splits"]
    lists = tuple(_parse_list(entry, tuple(splits)) for entry in content["lists"])
    labels = LabelSpec(**content["labels"]) if "labels" in content else None
    rest = {name: value for name, value in content.items() if name not in ("lists", "labels")}
    return Manifest(**rest, lists=lists, labels=labels)


def _parse_list(entry: dict[str, Any], splits: tuple[str, ...]) -> ListSpec:
    unknown = set(entry["columns"]) - COLUMNS
    if unknown:
        raise ManifestError(
            f"{entry['file']}: unknown columns {sorted(unknown)}; known are {sorted(COLUMNS)}."
        )
    if not ({"file"} <= set(entry["columns"]) or {"id", "start_s"} <= set(entry["columns"])):
        raise ManifestError(f"{entry['file']}: its columns name neither file, nor id and start_s.")
    return ListSpec(**entry | {"columns": tuple(entry["columns"])}, splits=splits)
