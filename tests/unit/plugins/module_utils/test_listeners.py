# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.listeners import (
    Listener,
    Sockets,
    is_same,
    split_address,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_listen import (
    Address,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.process import (
    is_newer,
    read_process,
    soft_nofile,
    unit_of,
)

FIXTURES = Path(__file__).parent / "fixtures"
# Of the captured tables: 127.0.0.1:8000, and /run/demo/blue.sock.
TCP_INODE, UNIX_INODE = 880962, 91671
STAT = "{0} (python) S {1} 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 {2} 0 0\n"
# Of a host under hybrid cgroups, in a container.
CGROUP = (
    "13:perf_event:/\n"
    "9:name=systemd:/libpod_parent/libpod-b4/system.slice/system-demo.slice/"
    "demo@blue.service\n"
    "8:pids:/libpod_parent/libpod-b4\n"
    "0::/libpod_parent/libpod-b4/system.slice/system-demo.slice/demo@blue.service\n"
)
LIMITS = (
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max open files            1024                 524288               files     \n"
)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    net = tmp_path / "net"
    net.mkdir()
    for name in ("tcp", "tcp6"):
        table = FIXTURES / "keepalive" / (name + "_debian13.txt")
        (net / name).write_text(table.read_text())
    (net / "unix").write_text((FIXTURES / "proc_net_unix.txt").read_text())
    (tmp_path / "stat").write_text("cpu 1\nbtime 1700000000\n")
    return tmp_path


def add(proc: Path, pid: int, parent: int, inode: int) -> None:
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text("python\n")
    (folder / "stat").write_text(STAT.format(pid, parent, 500))
    (folder / "fd/5").symlink_to("socket:[{0}]".format(inode))


def resolver(host: str) -> list[Address]:
    known = {"localhost": ["127.0.0.1", "::1"], "127.0.0.1": ["127.0.0.1"]}
    return [ip_address(each) for each in known.get(host, ["203.0.113.9"])]


def sockets(proc: Path) -> Sockets:
    return Sockets(proc, resolver, lambda address: address.is_loopback)


def test_a_port_has_its_master_its_workers_and_its_connections(proc: Path) -> None:
    for pid, parent in ((449, 1), (451, 449), (452, 449)):
        add(proc, pid, parent, TCP_INODE)
    found = Listener("127.0.0.1:8000", 3, False, 449, (451, 452))
    assert sockets(proc).listener("127.0.0.1:8000") == found
    assert sockets(proc).listener("localhost:8000").master == 449


def test_another_hosts_port_is_not_ours(proc: Path) -> None:
    add(proc, 449, 1, TCP_INODE)
    assert sockets(proc).listener("203.0.113.9:8000").master == 0
    assert sockets(proc).listener("127.0.0.1:8001") == Listener("127.0.0.1:8001", 0)


def test_a_socket_of_systemd_is_served_by_the_service(proc: Path) -> None:
    add(proc, 1, 0, UNIX_INODE)
    held = sockets(proc).listener("unix:/run/demo/blue.sock")
    assert (held.by_systemd, held.master) == (True, 0)
    add(proc, 444, 1, UNIX_INODE)
    add(proc, 447, 444, UNIX_INODE)
    served = sockets(proc).listener("unix:/run/demo/blue.sock")
    assert served == Listener("unix:/run/demo/blue.sock", 1, True, 444, (447,))


def test_a_socket_is_found_through_a_link(proc: Path, tmp_path: Path) -> None:
    link = tmp_path / "live.sock"
    link.symlink_to("/run/demo/blue.sock")
    add(proc, 444, 1, UNIX_INODE)
    assert sockets(proc).listener("unix:{0}".format(link)).master == 444


def test_a_second_name_of_a_socket_is_the_same_socket(tmp_path: Path) -> None:
    bound, spare, link = (tmp_path / name for name in ("a", "b", "c"))
    bound.touch()
    os.link(bound, spare)
    link.symlink_to(spare)
    assert is_same(str(bound), str(link))
    assert not is_same(str(bound), str(tmp_path / "d"))


def test_addresses_with_colons_are_split_at_the_last() -> None:
    assert split_address("[::1]:8000") == ("[::1]", 8000)


def test_the_unit_is_found_in_a_real_cgroup_file() -> None:
    assert unit_of(CGROUP) == "demo@blue.service"
    assert unit_of("0::/system.slice/shop.service/payload\n") == "shop.service"
    assert unit_of("0::/user.slice/user@1000.service/app.slice/x.service\n") == ""
    assert unit_of("0::/init.scope\n") == ""


def test_the_soft_limit_counts() -> None:
    assert soft_nofile(LIMITS) == 1024
    assert soft_nofile(LIMITS.replace("1024", "unlimited")) == 0


def test_a_process_is_read(proc: Path) -> None:
    add(proc, 444, 1, UNIX_INODE)
    folder = proc / "444"
    (folder / "cmdline").write_text("python\0-m\0gunicorn\0")
    (folder / "environ").write_text("A=1\0B=x=y\0")
    (folder / "cgroup").write_text(CGROUP)
    (folder / "limits").write_text(LIMITS)
    (folder / "status").write_text("Uid:\t995\t995\t995\t995\nGid:\t33\t33\t33\t33\n")
    (folder / "exe").symlink_to("/usr/bin/python3.13")
    (folder / "cwd").symlink_to("/srv")
    found = read_process(444, proc)
    assert found.argv == ("python", "-m", "gunicorn")
    assert found.environ == {"A": "1", "B": "x=y"}
    assert (found.uid, found.gid, found.groups) == (995, 33, ())
    assert (found.exe, found.cwd) == ("/usr/bin/python3.13", "/srv")
    assert found.started_at_s == 1_700_000_000 + 500 / os.sysconf("SC_CLK_TCK")


def test_newer_leaves_room_for_the_clock(tmp_path: Path) -> None:
    path = tmp_path / "conf.py"
    path.write_text("")
    os.utime(path, (1000, 1000))
    assert is_newer(str(path), 990)
    assert not is_newer(str(path), 999)
    assert not is_newer(str(tmp_path / "none"), 0)
