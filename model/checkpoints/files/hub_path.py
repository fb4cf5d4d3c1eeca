"""Checkpoints at paths of the Hugging Face hub, which its client fetches into its cache."""

import re
from pathlib import Path, PurePosixPath

from cavsync.model.checkpoints.files.records import FOLDER_CONFIG_NAME, WEIGHTS_NAME
from cavsync.model.errors import CheckpointError

# A path on the Hugging Face hub, of which pathlib makes one slash of two.
HUB_PATH = re.compile(
    r"hf:/{1,2}(?:(?P<kind>dataset|space)s/)?(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<below>.+))?"
)


def fetched(path: Path) -> Path:
    """`path` itself; of one at hf://ORG/NAME[@REVISION][/PATH] the copy in the cache of the Hugging Face hub.

    A file is fetched with the records beside it, a folder with its weights and theirs. Raises CheckpointError where the
    hub gives none.
    """
    match = HUB_PATH.fullmatch(str(path))
    if match is None:
        return path
    from huggingface_hub import snapshot_download  # which takes a while to load

    below = PurePosixPath(match["below"] or "")
    records = [f"{below}.json", str(below.parent / FOLDER_CONFIG_NAME), str(below / FOLDER_CONFIG_NAME)]
    try:
        folder = snapshot_download(
            match["repo"],
            repo_type=match["kind"],
            revision=match["revision"],
            allow_patterns=[str(below), str(below / WEIGHTS_NAME), *records],
        )
    except Exception as error:  # of the hub's client, of the network beneath it, of the disk
        raise CheckpointError(
            f"hf://{str(path).removeprefix('hf:').lstrip('/')} cannot be fetched ({type(error).__name__}: "
            f"{str(error).strip().partition(chr(10))[0]}). Check the name, the network, and HF_TOKEN for what is private."
        ) from error
    return Path(folder) / below
