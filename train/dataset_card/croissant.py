"""A dataset's Croissant description: its files with their hashes, and its clips as records of the index."""

from collections.abc import Iterator, Mapping
from typing import Any

from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.train.dataset_card.facts import CardFacts

# The context of the specification, https://docs.mlcommons.org/croissant/docs/croissant-spec.html, release 1.0.
CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
_OF_CROISSANT = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet"),
    *("format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet"),
    *("references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField"),
    "transform",
)
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{name: f"cr:{name}" for name in _OF_CROISSANT},
}
# Column of the index -> type, whether it is a list, and what it holds.
FIELDS = {
    "key": ("sc:Text", False, "Key of the clip, which begins the names of its files in the shard."),
    "clip_id": ("sc:Text", False, "Id of the clip, as listed."),
    "split": ("sc:Text", False, "Split of the clip."),
    "state": ("sc:Text", False, "Outcome of the clip; only clips in state ok are in a shard."),
    "reason": ("sc:Text", False, "Why the clip is not in state ok."),
    "labels": ("sc:Text", True, "Labels of the clip, as listed."),
    "start_s": ("sc:Float", False, "Where the clip begins in its video, in seconds, as listed."),
    "end_s": ("sc:Float", False, "Where the clip ends in its video, in seconds, as listed."),
    "duration_s": ("sc:Float", False, "Duration of the clip that was prepared, in seconds."),
    "frame_pts_s": ("sc:Float", True, "Presentation times of its frames, in seconds from its start."),
    "num_mel_rows": ("sc:Integer", False, "Rows of its log-mel, 100 a second."),
    "silent": ("sc:Boolean", False, "Whether its audio is silent."),
    "still": ("sc:Boolean", False, "Whether all its frames show the same image."),
}


def croissant(facts: CardFacts, description: str) -> dict[str, Any]:
    """The content of croissant.json, which lies in the dataset's folder: addresses are relative to that."""
    given = {"license": facts.license, "url": facts.source if _is_url(facts.source) else None}
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": facts.name,
        "description": description,
        "version": "1.0.0",
        **{name: value for name, value in given.items() if value is not None},
        "distribution": list(_distribution(facts)),
        "recordSet": [_clips()],
    }


def _is_url(text: str | None) -> bool:
    return text is not None and "://" in text and " " not in text


def _distribution(facts: CardFacts) -> Iterator[Mapping[str, Any]]:
    """The index, of which records are made, then each shard with the hash of its done-record."""
    yield {
        "@type": "cr:FileSet",
        "@id": "index",
        "name": "index",
        "description": "One row for each listed clip.",
        "encodingFormat": "application/x-parquet",
        "includes": "index/*.parquet",
    }
    paths = facts.inventory.paths
    for shard, record in facts.inventory.records.items():
        yield {
            "@type": "cr:FileObject",
            "@id": f"{shard}.tar",
            "name": f"{shard}.tar",
            "description": f"WebDataset tar of {record.states.get('ok', 0):,} clips: frames, log-mel, description.",
            "contentUrl": _below(paths, shard),
            "contentSize": f"{record.tar_bytes} B",
            "encodingFormat": "application/x-tar",
            "sha256": record.tar_sha256,
        }


def _below(paths: DatasetPaths, shard: str) -> str:
    return str(paths.tar(shard)).removeprefix(f"{paths.root}/")


def _clips() -> Mapping[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "clips",
        "name": "clips",
        "description": "Every listed clip, also those that are not in state ok.",
        "key": {"@id": "clips/key"},
        "field": [_field(column, *about) for column, about in FIELDS.items()],
    }


def _field(column: str, kind: str, is_list: bool, description: str) -> Mapping[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"clips/{column}",
        "name": column,
        "description": description,
        "dataType": kind,
        **({"repeated": True} if is_list else {}),
        "source": {"fileSet": {"@id": "index"}, "extract": {"column": column}},
    }
