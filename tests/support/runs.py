"""`cavsync prepare folder` in another process or in the test's own, sabotaged on request, and the files that it leaves."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import command_line
from support.processes.forked_decoder import fork_decoders
from support.sabotage import sitecustomize

COMMAND = (str(Path(sys.executable).with_name("cavsync")), "prepare", "folder")
SMALL = ("--shard-size", "2", "--num-frames", "2", "--frame-size", "32", "--max-failure-rate", "1")
SABOTAGE = Path(__file__).with_name("sabotage")


@contextmanager
def started(
    *arguments: str | Path, sabotage: Sequence[Mapping[str, Any]] = (), env: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """The running command, with its output piped; see tests/sabotage for what `sabotage` may be."""
    run = subprocess.Popen(
        [*COMMAND, *arguments, *SMALL],
        env={**os.environ, **variables(sabotage), **(env or {})},
        start_new_session=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield run
    finally:
        run.kill()
        run.communicate()


def prepare(
    *arguments: str | Path, sabotage: Sequence[Mapping[str, Any]] = (), env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run to the end."""
    with started(*arguments, sabotage=sabotage, env=env) as run:
        stdout, stderr = run.communicate(timeout=120)
    return subprocess.CompletedProcess(run.args, run.returncode, stdout, stderr)


def prepare_here(
    *arguments: str | Path, sabotage: Sequence[Mapping[str, Any]] = (), env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """As `prepare`, without the two seconds of another Python. Sabotage reaches the decoder alone, which is a process of
    its own here too."""
    with pytest.MonkeyPatch.context() as patch:
        fork_decoders(patch)
        for name, value in {**variables(sabotage), **(env or {})}.items():
            patch.setenv(name, value)
        result = command_line.run("prepare", "folder", *arguments, *SMALL)
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


@contextmanager
def copied(*arguments: str | Path, sabotage: Sequence[Mapping[str, Any]] = ()) -> Iterator[BaseProcess]:
    """The command, running in a copy of this process, which imports nothing again; for tests that kill it."""
    copy = get_context("fork").Process(target=_prepare_sabotaged, args=(arguments, sabotage))
    copy.start()
    try:
        yield copy
    finally:
        copy.kill()
        copy.join()


def prepare_killed(*arguments: str | Path, sabotage: Sequence[Mapping[str, Any]]) -> int | None:
    """Exit code of the command, which `sabotage` must kill."""
    with copied(*arguments, sabotage=sabotage) as copy:
        copy.join(120)
        return copy.exitcode


def _prepare_sabotaged(arguments: Sequence[str | Path], sabotage: Sequence[Mapping[str, Any]]) -> None:
    for one in sabotage:
        sitecustomize.install(one)
    with pytest.MonkeyPatch.context() as patch:
        fork_decoders(patch)
        command_line.run("prepare", "folder", *arguments, *SMALL)


def variables(sabotage: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Of the environment in which Python programs are sabotaged."""
    return {"SABOTAGE": json.dumps(sabotage), "PYTHONPATH": str(SABOTAGE)} if sabotage else {}


def content(out: Path) -> dict[str, bytes]:
    """Everything that must not depend on when or how a dataset was made."""
    files = [*out.glob("shards/*"), *out.glob("index/*"), *out.glob("*.parquet"), out / "dataset.json"]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def stamps(out: Path) -> dict[Path, int]:
    """When each file of each finished shard was written."""
    shards = [path.stem for path in out.glob("done/*.json")]
    files = [next(out.glob(f"{part}/{shard}.*")) for shard in shards for part in ("shards", "index", "done")]
    return {path: path.stat().st_mtime_ns for path in files}


def index(out: Path) -> pd.DataFrame:
    tables = [pd.read_parquet(path) for path in sorted(out.glob("index/*.parquet"))]
    return pd.concat(tables, ignore_index=True)


def wait_for(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    stop = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < stop, "it did not come to that"
        time.sleep(0.02)
