"""`cavsync doctor`: which decoders, codecs, libraries, extras and hardware the commands can use on this machine."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cavsync.pipeline.dataset.choices import DecoderName
from cavsync.pipeline.dataset.config import PrepareConfig

EXIT_UNUSABLE = 1
GIB = 2**30
# Distribution -> module, of everything that a command imports and that may be built for another machine.
LIBRARIES = {
    "av": "av",
    "numpy": "numpy",
    "pandas": "pandas",
    "pillow": "PIL",
    "pyarrow": "pyarrow",
    "ray": "ray",
    "safetensors": "safetensors",
    "scikit-learn": "sklearn",
    "tensorboard": "tensorboard",
    "timm": "timm",
    "torch": "torch",
    "torchaudio": "torchaudio",
    "torchvision": "torchvision",
    "webdataset": "webdataset",
}
CHOSEN_LIBRARIES = {"decord": "decord", "ffmpeg-python": "ffmpeg"}  # for --decoder
# Extra of the package -> what it is for, and its libraries, whose distributions and modules have one name.
EXTRAS = {
    "remote": ("datasets and videos on S3", ("s3fs",)),
    "onnx": ("checkpoint export --format onnx", ("onnx", "onnxruntime", "onnxscript")),
}
# What a library built for another machine, or for another version of its neighbour, raises.
BROKEN_IMPORT = (ImportError, OSError, RuntimeError, AttributeError)
# Below these a preparation on this machine will not get far.
MIN_DISK_BYTES, MIN_MEMORY_BYTES = GIB, GIB
# Ray keeps its object store there, and on disk where it is smaller. Loader processes hand their batches over in it.
MIN_SHM_BYTES = GIB // 4
MORE_SHM = "; --workers is slower then and --num-workers may fail. In a container: docker run --shm-size=1g"


@dataclass(frozen=True)
class Check:
    """One part of the machine or of the installation that was checked."""

    part: str
    name: str
    usable: bool
    needed: bool  # by what runs without any option
    found: str


def doctor(
    root: Annotated[
        Path,
        typer.Option(envvar="CAVSYNC_ROOT", help="Folder of datasets and runs, whose disk space is checked."),
    ] = Path(),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Check which decoders, codecs, libraries and hardware are usable on this machine.

    A clip of one second is written in every codec and decoded with every decoder.
    Ends with exit code 1 if something is unusable that the commands need by default.
    """
    with Console(stderr=True).status("Checking libraries and decoders"):
        checks = [*_machine(root), *_libraries(), *_extras(), *_decoders()]
    usable = all(check.usable for check in checks if check.needed)
    if as_json:
        typer.echo(json.dumps({"usable": usable, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        _print(checks, usable)
    if not usable:
        raise typer.Exit(EXIT_UNUSABLE)


def _machine(root: Path) -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check("machine", "CPU cores", True, True, f"{cores}: --workers {cores} uses them all")
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    memory = f"{total / GIB:.1f} GiB, {free / GIB:.1f} GiB of it free"
    yield Check("machine", "memory", total >= MIN_MEMORY_BYTES, True, memory)
    yield _disk("disk", _existing(root), MIN_DISK_BYTES, True)
    if Path("/dev/shm").is_dir():
        yield _disk("shared memory", Path("/dev/shm"), MIN_SHM_BYTES, False, MORE_SHM)
    yield _gpu()


def _disk(name: str, folder: Path, wanted: int, needed: bool, way_out: str = "") -> Check:
    free = shutil.disk_usage(folder).free
    enough = "" if free >= wanted else f"; less than {wanted / GIB:g} GiB{way_out}"
    return Check("machine", name, free >= wanted, needed, f"{free / GIB:.1f} GiB free in {folder}{enough}")


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    resolved = folder.resolve()
    return next(one for one in (resolved, *resolved.parents) if one.is_dir())


def _gpu() -> Check:
    try:
        torch = import_module("torch")
    except BROKEN_IMPORT:
        return Check("machine", "GPU", False, False, "torch cannot be imported")
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    lacking = "NVIDIA's driver" if torch.version.cuda else "a torch that was built with CUDA"
    found = ", ".join(names) or f"none: training runs on the CPU; a GPU needs {lacking}"
    return Check("machine", "GPU", bool(names), False, found)


def _libraries() -> Iterator[Check]:
    for distribution, module in (LIBRARIES | CHOSEN_LIBRARIES).items():
        needed = distribution in LIBRARIES
        try:
            import_module(module)
            yield Check("library", distribution, True, needed, _version(distribution))
        except BROKEN_IMPORT as error:
            why_not = f"cannot be imported: {_first_line(error)}"
            only_for = "" if needed else f"; needed for --decoder {module} only"
            yield Check("library", distribution, False, needed, why_not + only_for)


def _extras() -> Iterator[Check]:
    for extra, (purpose, libraries) in EXTRAS.items():
        found, broken = [], []
        for library in libraries:
            try:
                import_module(library)
                found.append(f"{library} {metadata.version(library)}")
            except BROKEN_IMPORT as error:
                broken.append(_first_line(error))
        text = f"{purpose}: {', '.join(found)}"
        if broken:
            text = f"{'; '.join(broken)}. For {purpose}: pip install 'cavsync[{extra}]'"
        yield Check("optional", extra, not broken, False, text)


def _version(distribution: str) -> str:
    version = metadata.version(distribution)
    if distribution == "av":
        version += f" with FFmpeg {import_module('av').ffmpeg_version_info}"
    if distribution == "ffmpeg-python":
        program = import_module("cavsync.pipeline.media.backends.ffmpeg_program")
        version += f" with the program {program.ffmpeg_path()}, {program.ffmpeg_version()}"
    return version


def _decoders() -> Iterator[Check]:
    with tempfile.TemporaryDirectory() as folder:
        for decoder in get_args(DecoderName):
            yield from _codecs(decoder, Path(folder))


def _codecs(decoder: DecoderName, folder: Path) -> Iterator[Check]:
    from cavsync.pipeline.media.backends.codec_check import (
        AUDIO_ENCODERS,
        VIDEO_ENCODERS,
        unsupported_reason,
    )

    for codec in (*VIDEO_ENCODERS, *AUDIO_ENCODERS):
        try:
            why_not = unsupported_reason(decoder, codec, folder)
        except BROKEN_IMPORT as error:
            why_not = f"does not start: {_first_line(error)}"
        yield Check(decoder, codec, why_not is None, decoder == PrepareConfig.decoder, why_not or "decoded")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _print(checks: list[Check], usable: bool) -> None:
    console = Console()
    decoders = get_args(DecoderName)
    console.print(_list([check for check in checks if check.part not in decoders]), "")
    tried = [check for check in checks if check.part in decoders]
    console.print(_grid(tried), "")
    for check in tried:
        if not check.usable:
            console.print(f"{check.part}, {check.name}: {check.found}", markup=False, highlight=False)
    missing = ", ".join(check.name for check in checks if check.needed and not check.usable)
    if usable:
        console.print("Everything that the commands need by default is usable.")
    else:
        console.print(f"[bold red]Needed, but not usable:[/] {missing}")


def _list(checks: list[Check]) -> Table:
    table = Table("", "", "usable", "", box=None)
    for check in checks:
        table.add_row(check.part, check.name, _mark(check), escape(check.found))
    return table


def _grid(checks: list[Check]) -> Table:
    """A row a decoder, a column a codec."""
    codecs = list(dict.fromkeys(check.name for check in checks))
    table = Table("--decoder", *codecs, box=None)
    for decoder in dict.fromkeys(check.part for check in checks):
        table.add_row(decoder, *(_mark(check) for check in checks if check.part == decoder))
    return table


def _mark(check: Check) -> str:
    return "[green]yes" if check.usable else "[bold red]NO" if check.needed else "[yellow]no"
