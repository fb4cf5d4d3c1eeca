"""Manifests describe datasets: the shipped `manifests/*.toml`, or a user's own TOML file (docs/datasets.md)."""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from difflib import get_close_matches
from importlib import resources
from typing import Any

from cavsync.errors import CavsyncError
from cavsync.pipeline.lists.names import SAFE_NAME, relative_path
from cavsync.pipeline.lists.text import read_text
from cavsync.pipeline.storage.path import AnyPath

# The meanings that a column of a list may have. Images and audio are those of evaluation sets without videos.
COLUMNS = {"id", "name", "file", "start_s", "end_s", "label", "labels", "split", "boxes"}
COLUMNS |= {"image", "audio", "class", "class_id"}
ROLES = {"train", "test"}


class ManifestError(CavsyncError):
    """A manifest is absent or wrong."""


@dataclass(frozen=True, kw_only=True)
class ListSpec:
    """One list file: the meaning of its columns, from COLUMNS, in order; with their titles where it has a header."""

    file: str
    columns: tuple[str, ...]
    titles: tuple[str, ...] = ()  # of the same columns; empty for a list without a header
    split: str = ""  # of all rows, where there is no split column
    splits: tuple[str, ...] = ()  # the names that a split column may hold; empty: any
    count: int | None = None  # rows of the official file
    read_by_default: bool = True
    comes_from: str = ""
    youtube_ids: bool = False


@dataclass(frozen=True, kw_only=True)
class LabelSpec:
    """The CSV (header index,mid,display_name) that orders the classes."""

    file: str
    count: int | None = None
    comes_from: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A dataset: its lists, the role of each split, its labels, and the mel statistics that papers use."""

    name: str
    title: str = ""
    homepage: str = ""
    licence: str = ""
    splits: Mapping[str, str]  # name -> role
    lists: tuple[ListSpec, ...]
    labels: LabelSpec | None = None
    mel_mean: float | None = None
    mel_std: float | None = None
    youtube_ids: bool = False  # 11 characters, which spreadsheets sometimes take for numbers
    read_by: str = ""  # the command that reads a dataset which has no videos to prepare

    def spec_for(self, file: str, num_columns: int) -> ListSpec:
        """The spec of a list, by its name, else by its number of columns."""
        named = [spec for spec in self.lists if spec.file == file]
        shaped = [spec for spec in self.lists if len(spec.columns) == num_columns and not spec.titles]
        titled = [spec for spec in self.lists if spec.titles] if len(self.lists) == 1 else []
        if not named and not shaped and not titled:
            layouts = "; ".join(f"{spec.file}: {', '.join(spec.columns)}" for spec in self.lists)
            raise ManifestError(
                f"{file} has {num_columns} columns, which no list of {self.title} has ({layouts})."
            )
        return (named or shaped or titled)[0]


def load_manifest(name: str) -> Manifest:
    """The built-in manifest of that name. Raises ManifestError, which lists the names, for any other."""
    folder = resources.files("cavsync.manifests")
    names = sorted(
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    )
    if name not in names:
        raise ManifestError(f"no dataset is described as {name!r}; there are: {', '.join(names)}.")
    return _parsed(f"{name}.toml", (folder / f"{name}.toml").read_text(encoding="utf-8"))


def read_manifest(path: AnyPath) -> Manifest:
    """The manifest in a user's file, or the built-in one of that name."""
    if path.is_file():
        try:
            return _parsed(str(path), read_text(path))
        except UnicodeDecodeError as error:
            raise ManifestError(f"{path} is no TOML in UTF-8: {error}.") from error
    if path.suffix == ".toml":
        raise ManifestError(f"{path} is no file; it should describe a dataset, as docs/datasets.md shows.")
    return load_manifest(str(path))


def _parsed(file: str, text: str) -> Manifest:
    try:
        return parse_manifest(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ManifestError) as error:
        raise ManifestError(f"{file}: {error}") from error


def parse_manifest(content: Mapping[str, Any]) -> Manifest:
    """Raises ManifestError, which names the key and its allowed values."""
    known = _checked(content, Manifest, "the file")
    _require(SAFE_NAME.fullmatch(content["name"]), "name", content["name"], "letters, digits, - and _")
    for split, role in content["splits"].items():
        _require(SAFE_NAME.fullmatch(split), "the name of a split", split, "letters, digits, - and _")
        _require(isinstance(role, str) and role in ROLES, f"splits.{split}", role, " or ".join(sorted(ROLES)))
    lists = tuple(_parse_list(entry, content["splits"]) for entry in content["lists"])
    youtube_ids = bool(content.get("youtube_ids"))
    labels = LabelSpec(**_checked(content["labels"], LabelSpec, "labels")) if "labels" in content else None
    known |= {"title": content.get("title", content["name"]), "labels": labels}
    known["lists"] = tuple(replace(one, youtube_ids=youtube_ids) for one in lists)
    return Manifest(**known)


def _parse_list(entry: Any, splits: Mapping[str, str]) -> ListSpec:
    known = _checked(entry, ListSpec, "lists", hidden=("titles", "splits", "youtube_ids"))
    columns = entry["columns"]
    titles = tuple(columns.values()) if isinstance(columns, dict) else ()
    for word in (*columns, *titles):
        _require(isinstance(word, str), f"columns of {entry['file']}", word, "text")
    spec = ListSpec(**known | {"columns": tuple(columns), "titles": titles, "splits": tuple(splits)})
    _check_path(spec.file)
    check_columns(spec)
    if "split" not in spec.columns:
        _require(spec.split in splits, f"split of {spec.file}", spec.split, " or ".join(splits))
    return spec


def check_columns(spec: ListSpec) -> None:
    """Raises ManifestError for unknown columns, and for columns that do not identify a clip."""
    for column in spec.columns:
        if column not in COLUMNS:
            raise ManifestError(f"{spec.file}: unknown columns {_with_nearest(column, COLUMNS)}.")
    if len(set(spec.columns)) < len(spec.columns):
        raise ManifestError(f"{spec.file}: a column is named twice in {', '.join(spec.columns)}.")
    identifying = [{"name"}, {"file"}, {"id"}, {"image", "audio"}]
    if not any(needed <= set(spec.columns) for needed in identifying):
        raise ManifestError(f"{spec.file}: its columns name neither name, file, nor id.")


def _check_path(file: str) -> None:
    try:
        relative_path(file)
    except ValueError:
        raise ManifestError(f"file = {file!r} cannot be used; it is a path below raw/<name>/.") from None


# Types of the fields in TOML; text where absent.
TYPES: dict[str, type | tuple[type, ...]] = {
    "splits": dict,
    "lists": list,
    "labels": dict,
    "columns": (list, dict),
    "count": int,
    "mel_mean": (float, int),
    "mel_std": (float, int),
    "read_by_default": bool,
    "youtube_ids": bool,
}


def _checked(content: Any, owner: Any, where: str, hidden: Collection[str] = ()) -> dict[str, Any]:
    """The entries of a TOML table, checked against the fields of the dataclass `owner`: known, typed and complete."""
    if not isinstance(content, dict):
        raise ManifestError(f"{where} is {content!r}, no table of names and values.")
    known = {field.name: field for field in fields(owner) if field.name not in hidden}
    for name, value in content.items():
        if name not in known:
            raise ManifestError(f"{where}: unknown key {_with_nearest(name, known)}.")
        _require(isinstance(value, TYPES.get(name, str)), name, value, _type_words(name))
    missing = [name for name, field in known.items() if field.default is MISSING and name not in content]
    if missing:
        raise ManifestError(f"{where}: {', '.join(missing)} is missing.")
    return dict(content)


def _with_nearest(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, 1)
    return (
        f"{name!r}; did you mean {near[0]!r}?" if near else f"{name!r}; known are {', '.join(sorted(known))}"
    )


def _type_words(name: str) -> str:
    kinds = TYPES.get(name, str)
    words = {
        str: "text",
        dict: "a table",
        list: "a list",
        int: "a number",
        float: "a number",
        bool: "true or false",
    }
    return " or ".join(
        dict.fromkeys(words[kind] for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
    )


def _require(is_valid: object, name: str, value: object, allowed: str) -> None:
    if not is_valid:
        raise ManifestError(f"{name} = {value!r} cannot be used; it should be {allowed}.")
