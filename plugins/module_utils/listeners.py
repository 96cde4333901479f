# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which process listens at an address that nginx connects to."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Callable, Dict, FrozenSet, List, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils import unix_connections
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_listen import (
    Address,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_ports import (
    find_holders,
    parse_established,
    parse_listening,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.proc_stat import (
    parse_parent,
    read_stats,
)

Resolver = Callable[[str], List[Address]]


@dataclass(frozen=True)
class Listener:
    """Who serves an address; ``master`` is 0 where no process does."""

    address: str
    connections: int
    by_systemd: bool = False
    master: int = 0
    workers: Tuple[int, ...] = ()


def resolve(host: str) -> List[Address]:
    """Return the addresses of a host, as nginx asks for them when it starts."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(ip_address(each[4][0]) for each in found))


def is_own(address: Address) -> bool:
    """Tell whether an address is this host's: only then a socket can have it."""
    is_ipv4 = isinstance(address, IPv4Address)
    family = socket.AF_INET if is_ipv4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def is_same(one: str, other: str) -> bool:
    """Tell whether two paths lead to one socket, by whatever kind of link."""
    with suppress(OSError):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def is_same_server(one: str, other: str) -> bool:
    """Tell whether two servers of an upstream are one, maybe by two paths."""
    if one == other:
        return True
    both_unix = one.startswith("unix:") and other.startswith("unix:")
    return both_unix and is_same(one[len("unix:") :], other[len("unix:") :])


def split_address(address: str) -> Tuple[str, int]:
    """Split ``host:port``."""
    host, _separator, port = address.rpartition(":")
    return host, int(port)


class Sockets:
    """The sockets of a host, and who holds them."""

    def __init__(
        self,
        proc: Path = Path("/proc"),
        resolver: Resolver = resolve,
        own: Callable[[Address], bool] = is_own,
    ) -> None:
        self._proc, self._resolve, self._own = proc, resolver, own

    def addresses(self, server: str) -> List[Address]:
        """Return the IP addresses of an upstream's server; none of a unix socket."""
        if server.startswith("unix:"):
            return []
        return self._resolve(split_address(server)[0])

    def listener(self, server: str) -> Listener:
        """Return who listens at an upstream's server."""
        if server.startswith("unix:"):
            inodes, connections = self._unix(server[len("unix:") :])
        else:
            inodes, connections = self._tcp(server)
        return self._listener(server, inodes, connections)

    def _unix(self, path: str) -> Tuple[FrozenSet[int], int]:
        table = self._read("net/unix")
        inodes, connections = set(), 0
        # The table has the path that was bound; there may be links to it.
        for bound, found in unix_connections.listening_inodes(table).items():
            if is_same(bound, path):
                inodes.update(found)
                connections += unix_connections.count_connections(table, bound)
        return frozenset(inodes), connections

    def _tcp(self, server: str) -> Tuple[FrozenSet[int], int]:
        port = split_address(server)[1]
        wanted = [each for each in self.addresses(server) if self._own(each)]
        tables = [self._read("net/tcp"), self._read("net/tcp6")]
        listening = [each for table in tables for each in parse_listening(table)]
        # A socket on [::] may take IPv4 as well, which no table tells.
        inodes = {
            each.inode
            for each in listening
            if wanted and each.port == port
            if each.address in wanted or each.address.is_unspecified
        }
        connections = sum(
            each.port == port and each.address in wanted
            for table in tables
            for each in parse_established(table)
        )
        return frozenset(inodes), connections if inodes else 0

    def _listener(
        self, server: str, inodes: FrozenSet[int], connections: int
    ) -> Listener:
        holders = find_holders(self._proc, inodes) if inodes else {}
        pids = {each.pid for found in holders.values() for each in found}
        # systemd keeps a socket it made beside the service that serves it.
        served = sorted(pids - {1})
        if not served:
            return Listener(server, connections, 1 in pids)
        parents = self._parents()
        master = next(pid for pid in served if parents.get(pid) not in served)
        workers = [pid for pid in served if parents.get(pid) == master]
        return Listener(server, connections, 1 in pids, master, tuple(workers))

    def _parents(self) -> Dict[int, int]:
        return {pid: parse_parent(stat) for pid, stat in read_stats(self._proc)}

    def _read(self, name: str) -> str:
        try:
            return (self._proc / name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:  # a kernel without IPv6
            return ""
