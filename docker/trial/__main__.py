"""Builds and starts the images on one Linux machine: `sudo python3 docker/trial --help`."""

import argparse
import sys
from pathlib import Path

from base_image import make_base_image
from engine import TrialError, require_programs, require_root, run
from hosts import remove_containers, try_hosts
from network import remove
from one_container import IMAGE, print_sizes, run_commands

ROOT = Path(__file__).parents[2]
# The smallest world that `cavsync demo` makes.
MIN_CLIPS = 64


def main() -> None:
    options, more = parser().parse_known_args()
    if more and options.action != "build":
        parser().error(f"unknown: {' '.join(more)}")
    if options.action in ("run", "hosts") and options.clips < MIN_CLIPS:
        parser().error(f"--clips: {MIN_CLIPS} or more, not {options.clips}")
    require_root()
    if options.action == "base":
        make_base_image(options.mirror)
    elif options.action == "build":
        build(more)
    elif options.action == "run":
        require_programs("podman")
        run_commands(options.data.resolve(), options.clips, options.steps)
    elif options.action == "hosts":
        require_programs("podman", "ip")
        try_hosts(options.data.resolve(), options.clips)
    else:
        require_programs("podman", "ip")
        remove_containers()
        remove()


def parser() -> argparse.ArgumentParser:
    description = (
        "Build the CPU image with podman, run its commands, and run the services of compose.yaml as hosts."
    )
    top = argparse.ArgumentParser(prog="docker/trial", description=description)
    actions = top.add_subparsers(dest="action", required=True)
    base = actions.add_parser(
        "base", help="make a stand-in for the base image, where no image registry is reached"
    )
    base.add_argument("--mirror", default="http://deb.debian.org/debian", help="of Debian")
    actions.add_parser("build", help="podman build; further options are passed on to it")
    for name, text in (
        ("run", "prepare with Ray, train and score the small world in containers"),
        ("hosts", "prepare on a head and workers in network namespaces; one is added, one loses power"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("--data", type=Path, required=True, help="folder for the clips and results")
        action.add_argument("--clips", type=int, default=256, help="clips of the small world")
        if name == "run":
            action.add_argument("--steps", type=int, default=20, help="of training")
    actions.add_parser("clean", help="remove containers and namespaces of a trial that was killed")
    return top


def build(options: list[str]) -> None:
    require_programs("podman")
    dockerfile = str(ROOT / "docker" / "cpu.Dockerfile")
    run(["podman", "build", "--file", dockerfile, "--tag", IMAGE, *options, str(ROOT)])
    print_sizes()


if __name__ == "__main__":
    try:
        main()
    except TrialError as error:
        sys.exit(f"docker/trial: {error}")
