# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Dict, List

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_listen import (
    parse_listens,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_ports import (
    Process,
    find_conflicts,
    parse_listening,
    refuse_taken_ports,
)

FIXTURES = Path(__file__).parent / "fixtures"
TCP = (FIXTURES / "proc_net_tcp.txt").read_text()
TCP6 = (FIXTURES / "proc_net_tcp6.txt").read_text()
SOCKETS = parse_listening(TCP) + parse_listening(TCP6)


def dump_of(*listens: str) -> str:
    return "# configuration file /etc/nginx/conf.d/shop.conf:\nserver {{ {0} }}".format(
        " ".join("listen {0};".format(listen) for listen in listens)
    )


def conflicting(listen: str, holders: Dict[int, List[Process]]) -> List[int]:
    listens = parse_listens(dump_of(listen))
    return [each.socket.inode for each in find_conflicts(listens, SOCKETS, holders)]


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    net = tmp_path / "net"
    net.mkdir()
    (net / "tcp").write_text(TCP)
    (net / "tcp6").write_text(TCP6)
    (tmp_path / "self").mkdir()
    return tmp_path


def add_process(proc: Path, pid: int, name: str, inode: int) -> None:
    fd = proc / str(pid) / "fd"
    fd.mkdir(parents=True)
    (proc / str(pid) / "comm").write_text(name + "\n")
    (fd / "0").symlink_to("/dev/null")
    (fd / "5").symlink_to("socket:[{0}]".format(inode))


def test_only_listening_sockets_are_read() -> None:
    assert [(str(each.address), each.port, each.inode) for each in SOCKETS] == [
        ("0.0.0.0", 22, 48434),
        ("0.0.0.0", 80, 48432),
        ("127.0.0.1", 8080, 48433),
        ("::1", 8082, 48437),
        ("::", 22, 48435),
        ("::", 3000, 48436),
        ("127.0.0.1", 8090, 48438),
    ]


@pytest.mark.parametrize(
    ("listen", "inodes"),
    [
        ("80", [48432]),
        ("127.0.0.1:80", [48432]),
        ("81", []),
        ("8080", [48433]),
        ("127.0.0.1:8080", [48433]),
        ("127.0.0.2:8080", []),
        ("[::]:80", []),
        ("[::]:80 ipv6only=off", [48432]),
        ("[::]:8082", [48437]),
        ("[::2]:8082", []),
        ("8082", []),
        ("3000", [48436]),
        ("8090", [48438]),
        # Port 22 is held twice: [::]:22 leaves IPv4 to the other socket.
        ("22", [48434]),
    ],
)
def test_overlap_of_addresses(listen: str, inodes: List[int]) -> None:
    assert conflicting(listen, {}) == inodes


def test_a_port_that_nginx_holds_itself_is_no_conflict() -> None:
    holders = {48432: [Process(1, "systemd"), Process(7, "nginx")]}
    assert conflicting("80", holders) == []
    assert conflicting("127.0.0.1:80", holders) == []


def test_the_message_names_port_process_and_file(proc: Path) -> None:
    add_process(proc, 4711, "apache2", 48432)
    with pytest.raises(
        KeepaliveError,
        match=r"port 80 is held by process apache2 \(pid 4711\) at 0\.0\.0\.0, but "
        r"/etc/nginx/conf\.d/shop\.conf says 'listen 80'",
    ):
        refuse_taken_ports(dump_of("80"), proc)


def test_nginx_may_keep_its_ports(proc: Path) -> None:
    add_process(proc, 12, "nginx", 48432)
    refuse_taken_ports(dump_of("80", "unix:/run/x.sock"), proc)


def test_a_holder_that_cannot_be_seen_is_still_refused(proc: Path) -> None:
    with pytest.raises(KeepaliveError, match="cannot be seen"):
        refuse_taken_ports(dump_of("80"), proc)


def test_a_host_without_ipv6_has_no_second_table(proc: Path) -> None:
    (proc / "net" / "tcp6").unlink()
    refuse_taken_ports(dump_of("3000"), proc)
