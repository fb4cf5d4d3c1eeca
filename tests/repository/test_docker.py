"""Proves the containers' steps, as far as they run without an engine: the wheel is built and installed by the Dockerfiles' own
commands, and the commands of compose.yaml and rayjob.yaml are understood by what was installed.

Not run: base images, apt-get, the download of dependencies, useradd, engines, Kubernetes; `docker/trial` runs all but the last.
"""

import re
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
# Fields of KubeRay's API ray.io/v1, without those of pods, and those that must be there in the test below.
FIELDS_OF_JOB = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionPolicy", "entrypoint", "entrypointNumCpus",
    "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata", "rayClusterSpec", "runtimeEnvYAML",
    "shutdownAfterJobFinishes", "submissionMode", "submitterConfig", "submitterPodTemplate", "suspend",
    "ttlSecondsAfterFinished",
}  # fmt: skip
FIELDS_OF_CLUSTER = {
    "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec", "headServiceAnnotations",
    "managedBy", "rayVersion", "suspend", "workerGroupSpecs",
}  # fmt: skip
FIELDS_OF_HEAD = {"enableIngress", "headService", "rayStartParams", "serviceType", "template"}
FIELDS_OF_WORKERS = {
    "groupName", "idleTimeoutSeconds", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams", "replicas",
    "scaleStrategy", "suspend", "template",
}  # fmt: skip
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """(instruction, argument) in order, comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def step(dockerfile: Path, words: str) -> list[str]:
    """The one RUN command that holds `words`."""
    (command,) = [
        argument for name, argument in instructions(dockerfile) if name == "RUN" and words in argument
    ]
    return shlex.split(command)


def run(command: list[str], cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder /wheels after the first stage of the CPU image: its COPY lines, then its build."""
    folder = tmp_path_factory.mktemp("image")
    source = folder / "source"
    source.mkdir()
    for argument in copied(DOCKERFILES[0]):
        *paths, _ = argument.split()
        for path in paths:
            copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
            copy(ROOT / path, source / path)
    build = step(DOCKERFILES[0], "-m build")
    run([sys.executable, *build[1:-1], str(folder / "wheels")], source)
    shutil.copy(ROOT / "constraints.txt", folder / "wheels")
    return folder / "wheels"


def copied(dockerfile: Path) -> list[str]:
    """What goes into the stage that builds the wheel."""
    arguments = [argument for name, argument in instructions(dockerfile) if name == "COPY"]
    return [argument for argument in arguments if "/wheels" not in argument]


@pytest.fixture(scope="module")
def installed(wheels: Path) -> Path:
    """The programs of a clean environment with the wheel; the dependencies come from the running one by path."""
    home = wheels.parent / "venv"
    venv.create(home)
    install = step(DOCKERFILES[0], "/wheels/*.whl")
    assert install[-1] == "/wheels/*.whl"
    assert install[install.index("--constraint") + 1] == "/wheels/constraints.txt"
    (wheel,) = wheels.glob("*.whl")
    assert install[1:4] == ["-m", "pip", "install"]
    # The running environment's pip: to make one for the new environment takes seconds.
    into = ["--python", str(home / "bin" / "python"), "install"]
    run([sys.executable, "-m", "pip", *into, "--no-deps", str(wheel)], wheels)
    site = next((home / "lib").glob("python*/site-packages"))
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join([*dependencies, ""]))
    return home / "bin"


def test_the_wheel_is_whole(wheels: Path, installed: Path) -> None:
    assert "prepare" in run([str(installed / "cavsync"), "--help"], wheels)
    names = run(
        [str(installed / "python"), "-m", "zipfile", "--list", str(next(wheels.glob("*.whl")))], wheels
    )
    for path in (ROOT / "manifests").glob("*.toml"):
        assert f"cavsync/manifests/{path.name}" in names


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_images_are_pinned_and_run_as_a_user(dockerfile: Path) -> None:
    steps = instructions(dockerfile)
    stages = {match[1] for _, argument in steps if (match := re.search(r" AS (\w+)$", argument))}
    bases = [argument.split()[0] for name, argument in steps if name == "FROM"]
    assert all(base in stages or re.search(r":\d+\.\d+\.\d+", base) for base in bases)
    last_stage = steps[max(index for index, (name, _) in enumerate(steps) if name == "FROM") :]
    assert ("USER", "10001") in last_stage
    assert ("ENTRYPOINT", '["tini", "--", "cavsync"]') in last_stage
    assert {"tini", "wget"} <= set(step(dockerfile, "apt-get install"))
    assert copied(dockerfile) == copied(DOCKERFILES[0])
    assert step(dockerfile, "-m build") == step(DOCKERFILES[0], "-m build")
    folders = {argument.split()[0] for argument in copied(dockerfile)[1:]}
    assert folders == {"cavsync", "cli", "manifests", "model", "pipeline", "train"}


def test_no_more_than_what_is_copied_is_sent_to_the_engine() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    sent = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines
    assert sorted(sent) == sorted(
        path for argument in copied(DOCKERFILES[0]) for path in argument.split()[:-1]
    )


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / "docker" / name).read_text())


def understood(command: list[str], installed: Path, cwd: Path) -> str:
    """The output of `cavsync ...` where there is nothing to prepare; unknown options would end with code 2."""
    command = [word for word in command if word not in ("--ray-address", "auto")]
    result = subprocess.run(
        [str(installed / "cavsync"), *command[1:]], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1, result.stderr
    return result.stderr


def test_the_job_of_the_cluster_is_understood(installed: Path, tmp_path: Path) -> None:
    job = load("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    command = shlex.split(job["spec"]["entrypoint"])
    assert command[:3] == ["cavsync", "prepare", "audioset"]
    assert "No list of AudioSet" in understood(command, installed, tmp_path)
    cluster = job["spec"]["rayClusterSpec"]
    assert set(job["spec"]) <= FIELDS_OF_JOB
    assert {"headGroupSpec"} <= set(cluster) <= FIELDS_OF_CLUSTER
    assert {"rayStartParams", "template"} <= set(cluster["headGroupSpec"]) <= FIELDS_OF_HEAD
    for group in cluster["workerGroupSpecs"]:
        assert {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"} <= set(group)
        assert set(group) <= FIELDS_OF_WORKERS
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text().splitlines()
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["volumeMounts"] == [{"name": "data", "mountPath": "/data"}]


def test_the_command_in_the_comment_of_compose_is_understood(installed: Path, tmp_path: Path) -> None:
    text = (ROOT / "docker" / "compose.yaml").read_text()
    (command,) = re.findall(r"exec head (cavsync .*)", text)
    assert "No list of AudioSet" in understood(command.split(), installed, tmp_path)


def test_compose_starts_ray_with_options_that_it_knows() -> None:
    services = load("compose.yaml")["services"]
    known = run([str(Path(sys.executable).with_name("ray")), "start", "--help"], ROOT)
    for service in services.values():
        program, command, *options = service["entrypoint"]
        assert (program, command) == ("ray", "start")
        assert all(option.partition("=")[0] in known for option in options)
        assert (ROOT / "docker" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert services["head"]["ports"] == ["127.0.0.1:8265:8265"]
