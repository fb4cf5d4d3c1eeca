"""Which columns of a list with a header identify its clips, by their titles."""

import re
from collections.abc import Mapping, Sequence

from cavsync.pipeline.lists.manifest import ListSpec
from cavsync.pipeline.lists.tables import ListError, column_indices, titles_of
from cavsync.pipeline.storage.path import AnyPath

# Words in the titles of columns that probably hold times.
TIME_WORDS = {
    "start_s": {"start", "starts", "starttime", "begin", "begins", "beginning", "onset", "from"},
    "end_s": {"end", "ends", "endtime", "stop", "until", "offset"},
}


def spec_from_titles(path: AnyPath, titles: Mapping[str, str | None]) -> ListSpec:
    """The columns of a list with a header. `titles` has the titles of some columns; the others are found by their own
    names (id, start_s, ...).

    Raises ListError for a title that is absent, for columns that do not identify a clip, and for one of times that is
    not named: each clip would be the first 10 s of its file.
    """
    found = titles_of(path)
    column_indices(path, [title for title in titles.values() if title])
    given = {title for title in titles.values() if title}
    chosen = {
        column: title or column
        for column, title in titles.items()
        if title or (column in found and column not in given)
    }
    if "file" not in chosen and "id" not in chosen:
        raise ListError(
            f"{path} has the columns {', '.join(found) or 'none'}. Say with --id-column or with --file-column which of "
            "them identifies a clip, and with --start-column which has its start in the video, if one has. (Lists "
            "without a header need a --dataset-file.)"
        )
    _require_times_named(path, found, chosen)
    return ListSpec(file=path.name, columns=tuple(chosen), titles=tuple(chosen.values()), split="train")


def _require_times_named(path: AnyPath, found: Sequence[str], chosen: Mapping[str, str]) -> None:
    for column, option in (("start_s", "--start-column"), ("end_s", "--end-column")):
        for title in found:
            words = set(re.split(r"[^a-z]+", title.lower()))
            if column not in chosen and title not in chosen.values() and words & TIME_WORDS[column]:
                raise ListError(
                    f"{path} has a column {title!r}, which may hold times of the clips. Name it with {option} {title!r}; "
                    "if it holds something else, rename it."
                )
