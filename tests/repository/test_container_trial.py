"""Proves what `docker/trial` does without an engine: it rejects wrong calls, and starts a service with the options of compose.yaml."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TRIAL = ROOT / "docker" / "trial"


def trial(*arguments: str, root: bool = True) -> subprocess.CompletedProcess[str]:
    """The trial without programs in its PATH, as root or as another user."""
    program = (
        f"import os, runpy, sys; os.geteuid = lambda: {0 if root else 1000}; sys.argv = ['trial', *sys.argv[1:]];"
        f"runpy.run_path({str(TRIAL)!r}, run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["base"], "debootstrap, podman, tar"),
        (["build"], "podman"),
        (["run", "--data", "clips"], "podman"),
        (["hosts", "--data", "clips"], "podman, ip"),
        (["clean"], "podman, ip"),
    ],
)
def test_programs_that_are_missing_are_named(arguments: list[str], message: str) -> None:
    result = trial(*arguments)
    assert result.returncode == 1
    assert result.stderr.strip() == f"docker/trial: not installed: {message}"


def test_it_asks_for_root() -> None:
    result = trial("clean", root=False)
    assert result.returncode == 1
    assert "need root: repeat with sudo" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: action"),
        (["hosts"], "required: --data"),
        (["hosts", "--data", "clips", "--workers", "3"], "unknown: --workers 3"),
        (["run", "--data", "clips", "--clips", "63"], "--clips: 64 or more, not 63"),
        (["run", "--data", "clips", "--clips", "few"], "--clips"),
    ],
)
def test_wrong_calls_end_with_what_is_wrong(arguments: list[str], message: str) -> None:
    result = trial(*arguments)
    assert result.returncode == 2
    assert message in result.stderr


@pytest.fixture
def compose() -> Iterator[ModuleType]:
    sys.path.insert(0, str(TRIAL))
    specification = importlib.util.spec_from_file_location("trial_compose", TRIAL / "compose.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module
    sys.path.remove(str(TRIAL))
    del sys.modules["engine"]


@pytest.mark.parametrize("name", ["head", "worker"])
def test_a_service_starts_as_compose_would_start_it(compose: ModuleType, name: str) -> None:
    service = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"][name]
    *options, image = compose.service_options(name, Path("/srv/clips"))
    assert image == service["image"]
    assert {"--init", f"--restart={service['restart']}"} <= set(options)
    assert "--volume=/srv/clips:/data" in options
    assert "--env=RAY_AUTH_MODE=disabled" in options
    assert f"--shm-size={service['shm_size']}" in options
    assert f"--entrypoint={json.dumps(service['entrypoint'])}" in options
    assert f"--health-cmd={service['healthcheck']['test'][1]}" in options


def test_what_the_trial_would_leave_out_is_an_error(
    compose: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docker" / "compose.yaml").read_text()
    (tmp_path / "compose.yaml").write_text(text.replace("init: true", "init: true\n  privileged: true"))
    monkeypatch.setattr(compose, "FILE", tmp_path / "compose.yaml")
    with pytest.raises(Exception, match="service head: the trial does not know privileged"):
        compose.service_options("head", tmp_path)
