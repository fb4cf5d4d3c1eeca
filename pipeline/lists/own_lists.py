"""Lists without a description: which column holds what is told by its title."""

from collections.abc import Mapping

from cavsync.pipeline.lists.manifest import ListSpec
from cavsync.pipeline.lists.tables import ListError, places_of, titles_of
from cavsync.pipeline.storage.path import Place


def spec_from_titles(path: Place, titles: Mapping[str, str | None]) -> ListSpec:
    """How to read a list with a header. `titles` tells the title of some columns; where it does not, a column that
    is titled like what it holds (id, start_s, ...) is taken.

    Raises ListError for a title that is not there, and for columns that do not say which clip a row means.
    """
    there = titles_of(path)
    places_of(path, [title for title in titles.values() if title])
    chosen = {column: title or column for column, title in titles.items() if title or column in there}
    if "file" not in chosen and not {"id", "start_s"} <= set(chosen):
        raise ListError(
            f"{path} has the columns {', '.join(there) or 'none'}. Say with --id-column and --start-column, or with "
            "--file-column, which of them tell a clip. (Lists without a header need a --dataset-file.)"
        )
    return ListSpec(file=path.name, columns=tuple(chosen), titles=tuple(chosen.values()), split="train")
