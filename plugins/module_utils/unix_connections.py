# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count the connections a Unix socket's server side holds, from outside it."""

from __future__ import annotations

from typing import Dict, List

_FLAGS, _INODE, _PATH = 3, 6, 7
_ACCEPTS_CONNECTIONS = 0x10000


def count_connections(proc_net_unix: str, path: str) -> int:
    """Return how many connections to the listener at ``path`` are open.

    ``proc_net_unix`` is the text of /proc/net/unix. A server-side socket
    carries its listener's address from the moment the client connects, so a
    connection still waiting in the accept queue is counted too; the listener
    itself, which the kernel marks SO_ACCEPTCON, is not (Linux,
    net/unix/af_unix.c: unix_stream_connect, unix_seq_show).
    """
    count = 0
    for line in proc_net_unix.splitlines()[1:]:
        fields = line.split(None, _PATH)
        if len(fields) <= _PATH or fields[_PATH] != path:
            continue
        if not int(fields[_FLAGS], 16) & _ACCEPTS_CONNECTIONS:
            count += 1
    return count


def listening_inodes(proc_net_unix: str) -> Dict[str, List[int]]:
    """Return the inodes of the sockets that listen, by the path each was bound to.

    There is more than one while a socket that was unlinked has a successor.
    """
    found: Dict[str, List[int]] = {}
    for line in proc_net_unix.splitlines()[1:]:
        fields = line.split(None, _PATH)
        if len(fields) <= _PATH or not fields[_PATH].startswith("/"):
            continue
        if int(fields[_FLAGS], 16) & _ACCEPTS_CONNECTIONS:
            found.setdefault(fields[_PATH], []).append(int(fields[_INODE]))
    return found
