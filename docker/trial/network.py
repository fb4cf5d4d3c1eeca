"""Hosts of a network of their own: network namespaces on one bridge, which lies in a namespace too.

Nothing of it is visible in the machine's own network, and it reaches no other.
"""

import ipaddress
import json
from collections.abc import Iterator
from contextlib import contextmanager

from engine import output

PREFIX = "cavsync-"
SWITCH = f"{PREFIX}switch"
ADDRESSES = ipaddress.ip_network("10.213.0.0/24")


@contextmanager
def network() -> Iterator[None]:
    """The bridge, as long as the block lasts; hosts that were added go with it."""
    remove()
    output(["ip", "netns", "add", SWITCH])
    try:
        _in(SWITCH, "link add bridge type bridge")
        _in(SWITCH, "link set bridge up")
        yield
    finally:
        remove()


def remove() -> None:
    """Delete the namespaces of this trial, also of an earlier one that was killed."""
    for namespace in json.loads(output(["ip", "-json", "netns", "list"]) or "[]"):
        if namespace["name"].startswith(PREFIX):
            output(["ip", "netns", "delete", namespace["name"]])


def add_host(name: str, number: int) -> str:
    """Add the namespace of a host, and connect it; returns its address."""
    namespace, address = namespace_of(name), address_of(number)
    output(["ip", "netns", "add", namespace])
    _in(SWITCH, f"link add {name} type veth peer name eth0 netns {namespace}")
    _in(SWITCH, f"link set {name} master bridge up")
    _in(namespace, "link set lo up")
    _in(namespace, f"address add {address}/{ADDRESSES.prefixlen} dev eth0")
    _in(namespace, "link set eth0 up")
    # Ray finds its own address by a route to the world; there is nobody at this one.
    _in(namespace, f"route add default via {ADDRESSES[-2]}")
    return address


def cut(name: str) -> None:
    """Pull a host's cable: nobody is told that its connections have ended."""
    _in(SWITCH, f"link set {name} down")


def processes(name: str) -> list[int]:
    """The processes that run on a host."""
    return [int(line) for line in output(["ip", "netns", "pids", namespace_of(name)]).split()]


def address_of(number: int) -> str:
    return str(ADDRESSES[number])


def namespace_of(name: str) -> str:
    return PREFIX + name


def _in(namespace: str, command: str) -> None:
    output(["ip", "-netns", namespace, *command.split()])
