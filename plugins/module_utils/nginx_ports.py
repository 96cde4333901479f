# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse an nginx configuration whose ports another program holds.

``nginx -t`` tries to bind but ignores "address already in use", since the nginx
that runs holds most of its ports. So a port held by another program would only
show at the reload.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Dict, FrozenSet, Iterable, List, Optional

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_listen import (
    Address,
    Listen,
    parse_listens,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.process import look_into

_TCP_ESTABLISHED, _TCP_LISTEN = "01", "0A"
_SOCKET_LINK = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True)
class Socket:
    """One socket of the kernel's table, by its own end."""

    address: Address
    port: int
    inode: int


@dataclass(frozen=True)
class Process:
    pid: int
    name: str


@dataclass(frozen=True)
class Conflict:
    listen: Listen
    socket: Socket
    holder: Optional[Process]


def _parse_address(text: str) -> Address:
    """Decode an address of /proc/net/tcp: 32-bit words in host byte order."""
    words = (text[start : start + 8] for start in range(0, len(text), 8))
    packed = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    address = ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def parse_listening(table: str) -> List[Socket]:
    """Return the listening sockets of /proc/net/tcp or tcp6 (proc(5))."""
    return _parse_sockets(table, _TCP_LISTEN)


def parse_established(table: str) -> List[Socket]:
    """Return the ends of connections in /proc/net/tcp or tcp6."""
    return _parse_sockets(table, _TCP_ESTABLISHED)


def _parse_sockets(table: str, state: str) -> List[Socket]:
    sockets = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[3] == state:
            address, port = fields[1].split(":")
            sockets.append(
                Socket(_parse_address(address), int(port, 16), int(fields[9]))
            )
    return sockets


def _overlap(listen: Listen, socket: Socket, ipv4_ports: FrozenSet[int]) -> bool:
    """Tell whether the kernel would refuse ``listen`` because of ``socket``.

    /proc does not tell whether a socket on [::] takes IPv4 too. It does by
    default, unless something else listens on that port over IPv4.
    """
    if listen.port != socket.port:
        return False
    if listen.address.version == socket.address.version:
        return (
            listen.address == socket.address
            or listen.address.is_unspecified
            or socket.address.is_unspecified
        )
    if isinstance(socket.address, IPv6Address):
        return socket.address.is_unspecified and socket.port not in ipv4_ports
    return listen.address.is_unspecified and not listen.ipv6_only


def find_conflicts(
    listens: Iterable[Listen],
    sockets: List[Socket],
    holders: Dict[int, List[Process]],
) -> List[Conflict]:
    """Return the listens that a process other than nginx stands in the way of."""
    ipv4_ports = frozenset(
        socket.port for socket in sockets if isinstance(socket.address, IPv4Address)
    )
    conflicts: List[Conflict] = []
    for listen in listens:
        rivals = [each for each in sockets if _overlap(listen, each, ipv4_ports)]
        held = {
            rival.address
            for rival in rivals
            if any(process.name == "nginx" for process in holders.get(rival.inode, []))
        }
        if listen.address in held:
            continue
        conflicts.extend(
            Conflict(listen, rival, next(iter(holders.get(rival.inode, [])), None))
            for rival in rivals
            if rival.address not in held
        )
    return conflicts


def _sockets_of(process: Path) -> FrozenSet[int]:
    try:
        return look_into(process, lambda: _sockets_among(process / "fd"))
    except OSError:
        # The process has ended, or is not ours to look into.
        return frozenset()


def _sockets_among(descriptors: Path) -> FrozenSet[int]:
    links = (str(descriptor.readlink()) for descriptor in descriptors.iterdir())
    matches = (_SOCKET_LINK.match(link) for link in links)
    return frozenset(int(match.group(1)) for match in matches if match)


def find_holders(proc: Path, inodes: FrozenSet[int]) -> Dict[int, List[Process]]:
    """Return, for each of ``inodes``, the processes that have it open."""
    holders: Dict[int, List[Process]] = {}
    pids = sorted(int(each.name) for each in proc.iterdir() if each.name.isdigit())
    for pid in pids:
        for inode in inodes.intersection(_sockets_of(proc / str(pid))):
            try:
                name = (proc / str(pid) / "comm").read_text().strip()
            except OSError:
                continue
            holders.setdefault(inode, []).append(Process(pid, name))
    return holders


def _describe(conflict: Conflict) -> str:
    holder = conflict.holder
    return (
        "port {0} is held by {1} at {2}, but {3} says 'listen {4}': stop that "
        "process, or change the port there (in the variable it comes from, if the "
        "file is generated)"
    ).format(
        conflict.listen.port,
        "process {0} (pid {1})".format(holder.name, holder.pid)
        if holder
        else "a process that cannot be seen from here",
        conflict.socket.address,
        conflict.listen.file,
        conflict.listen.directive,
    )


def refuse_taken_ports(dump: str, proc: Path) -> None:
    """Raise KeepaliveError if another program holds a port that nginx wants."""
    listens = parse_listens(dump)
    ports = {listen.port for listen in listens}
    sockets = [
        socket
        for table in (proc / "net" / "tcp", proc / "net" / "tcp6")
        if table.exists()
        for socket in parse_listening(table.read_text())
        if socket.port in ports
    ]
    holders = find_holders(proc, frozenset(socket.inode for socket in sockets))
    conflicts = find_conflicts(listens, sockets, holders)
    if conflicts:
        raise KeepaliveError("; ".join(dict.fromkeys(map(_describe, conflicts))))
