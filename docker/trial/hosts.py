"""Runs the services of compose.yaml as hosts of one network. While they prepare, another is added and one loses power."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compose import service_options
from engine import TrialError, output
from network import add_host, address_of, cut, namespace_of, network, processes
from one_container import PREPARE, make_world, prepare_alone, require_absent, require_equal

PREPARE_ON_HOSTS = "cavsync " + PREPARE.format(name="hosts") + "--workers 12 --ray-address auto --json"
LOST, ADDED = "worker2", "worker3"
DECODER = b"cavsync.pipeline.decoding.worker"


def try_hosts(data: Path, clips: int) -> None:
    """Prepare on a head and two workers, add one, lose one; the result must be that of one process."""
    require_absent(data / "data/hosts")
    make_world(data, clips)
    prepare_alone(data)
    with network(), containers() as hosts:
        hosts.start("head", 1, data)
        wait_until_healthy("head")
        hosts.start("worker1", 2, data)
        wait_until_healthy("worker1")
        hosts.start(LOST, 3, data)
        wait_until_healthy(LOST)
        summary = prepare(hosts, data)
    num_files = require_equal(data / "data/alone", data / "data/hosts")
    print(
        f"{num_files} files of shards and index are equal to those of one process; states: {summary['states']}"
    )


class Hosts:
    """The containers that run, each on a host of its own."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def start(self, name: str, number: int, data: Path) -> None:
        """Start the service that `name` begins with, on a new host; all know the head by its name."""
        service = name.rstrip("0123456789")
        address = add_host(name, number)
        options = service_options(service, data)
        place = [
            f"--network=ns:/run/netns/{namespace_of(name)}",
            f"--add-host=head:{address_of(1)}",
            # No name server is there, which gRPC's own resolver would wait for.
            "--env=GRPC_DNS_RESOLVER=native",
        ]
        output(
            ["podman", "run", "--detach", f"--name=cavsync-{name}", f"--hostname={name}", *place, *options]
        )
        self.names.append(name)
        print(f"{name} is up at {address}", flush=True)

    def lose(self, name: str) -> None:
        """The host loses power: first its cable, so that no connection is closed, then its processes."""
        cut(name)
        output(["podman", "rm", "--force", "--time=0", f"cavsync-{name}"])
        self.names.remove(name)
        print(f"{name} lost power", flush=True)

    def decoding(self) -> set[str]:
        """The hosts on which a clip is being decoded now."""
        return {name for name in self.names if any(map(_is_decoder, processes(name)))}


@contextmanager
def containers() -> Iterator[Hosts]:
    """Hosts whose containers are removed at the end of the block."""
    remove_containers()
    try:
        yield Hosts()
    finally:
        remove_containers()


def remove_containers() -> None:
    names = output(["podman", "ps", "--all", "--filter=name=^cavsync-", "--format={{.Names}}"]).split()
    if names:
        output(["podman", "rm", "--force", "--time=2", *names])


def wait_until_healthy(name: str) -> None:
    """Run the container's health check until it passes."""
    for _ in range(120):
        check = ["podman", "healthcheck", "run", f"cavsync-{name}"]
        if subprocess.run(check, capture_output=True, check=False).returncode == 0:
            print(f"{name} is healthy", flush=True)
            return
        # Ray gives up where a busy machine takes long. Not every podman heeds --restart at that.
        output(["podman", "start", f"cavsync-{name}"])
        time.sleep(2)
    log = subprocess.run(["podman", "logs", f"cavsync-{name}"], capture_output=True, text=True, check=False)
    raise TrialError(f"{name} did not become healthy\n{log.stdout}{log.stderr}")


def prepare(hosts: Hosts, data: Path) -> dict[str, Any]:
    """Prepare from the head. Once it has planned, ADDED joins; when that decodes, LOST loses power. Returns the last event."""
    decoded: set[str] = set()
    summary: dict[str, Any] = {}
    for event in events():
        if event["event"] == "log":
            print(event["line"], flush=True)
        if event["event"] == "end":
            summary = event
        decoding = hosts.decoding()
        decoded |= decoding
        if event["event"] == "start":
            hosts.start(ADDED, 4, data)
        if LOST in hosts.names and {LOST, ADDED} <= decoding:
            print(f"{', '.join(sorted(decoding))} decode, {event.get('states')} are done", flush=True)
            hosts.lose(LOST)
    if LOST in hosts.names:
        raise TrialError(f"all was done before {LOST} and {ADDED} decoded at a time: take more --clips")
    print(f"clips were decoded on {', '.join(sorted(decoded))}")
    return summary


def events() -> Iterator[dict[str, Any]]:
    """What `prepare --json` prints on the head, as it comes."""
    command = ["podman", "exec", "cavsync-head", *PREPARE_ON_HOSTS.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                yield json.loads(line)
            else:  # Ray prints what its nodes log
                print(line, end="", flush=True)
    if process.returncode:
        raise TrialError(f"exit code {process.returncode} of prepare on the hosts")


def _is_decoder(process: int) -> bool:
    try:
        return DECODER in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # it has ended
        return False
