"""Reads docker/compose.yaml and turns a service into options of `podman run`, for an engine without compose."""

import json
import re
from pathlib import Path
from typing import Any

from engine import TrialError

FILE = Path(__file__).parents[1] / "compose.yaml"
# `depends_on`: the trial starts hosts in that order. `ports`: a host of the trial has a network of its own.
LEFT_OUT = {"build", "depends_on", "ports"}


def service_options(name: str, data: Path) -> list[str]:
    """Options, image and command of `podman run` for a service, with the folder `data` for ${DATA}."""
    service = _services()[name]
    known = {
        "image",
        "init",
        "shm_size",
        "environment",
        "volumes",
        "entrypoint",
        "command",
        "healthcheck",
        "restart",
    }
    if unknown := set(service) - known - LEFT_OUT:
        raise TrialError(f"{FILE.name}: service {name}: the trial does not know {', '.join(sorted(unknown))}")
    return [
        *(["--init"] if service.get("init") else []),
        *([f"--restart={service['restart']}"] if "restart" in service else []),
        *([f"--shm-size={service['shm_size']}"] if "shm_size" in service else []),
        *(f"--env={key}={value}" for key, value in service.get("environment", {}).items()),
        *(f"--volume={re.sub(r'[$][{]DATA:[^}]*[}]', str(data), volume)}" for volume in service["volumes"]),
        *_health_options(service.get("healthcheck")),
        f"--entrypoint={json.dumps(service['entrypoint'])}",
        service["image"],
        *service.get("command", []),
    ]


def _services() -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise TrialError(f"{FILE.name} is read with PyYAML: pip install pyyaml") from error
    services: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return services


def _health_options(check: dict[str, Any] | None) -> list[str]:
    # No interval: a timer of podman needs systemd. The trial runs the check itself.
    if check is None:
        return []
    kind, command = check["test"]
    if kind != "CMD-SHELL":
        raise TrialError(f"{FILE.name}: the trial reads health checks of kind CMD-SHELL, not {kind}")
    return [f"--health-cmd={command}", "--health-interval=disable"]
