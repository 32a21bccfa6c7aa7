"""Processes in network namespaces of their own, joined by a bridge: as on machines of their own, on this one.

To be used in a process that was begun by `unshare --net`, so that the machine's own network is not touched. A process
waits until it has its address; when it ends, the kernel takes its namespace and its cable away.
"""

import subprocess
from dataclasses import dataclass

HOST = "10.77.0.1"
"""Address of the process that begins the others."""


def bridge():
    """Join what is to come."""
    for command in ("link set lo up", "link add br0 type bridge", f"addr add {HOST}/24 dev br0", "link set br0 up"):
        _ip(command)


@dataclass(frozen=True)
class Namespace:
    """A place for one process, with an address."""

    number: int

    before = ("unshare", "--net", "sh", "-c", 'read -r _; exec "$@"', "sh")
    """What stands before the process's command."""

    @property
    def address(self):
        return f"10.77.0.{self.number}"

    def join(self, process):
        """Give the process, which waits, its address, and let it go on."""
        ours, theirs = f"ours{self.number}", f"theirs{self.number}"
        _ip(f"link add {ours} type veth peer name {theirs}")
        _ip(f"link set {ours} master br0 up")
        _ip(f"link set {theirs} netns {process.pid}")
        for command in ("link set lo up", f"addr add {self.address}/24 dev {theirs}", f"link set {theirs} up"):
            _ip(command, "nsenter", "--target", str(process.pid), "--net")
        process.stdin.write("go\n")
        process.stdin.flush()


def _ip(command, *before):
    subprocess.run([*before, "ip", *command.split()], check=True)
