# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host from /proc to findings, with what real hosts printed."""

from __future__ import annotations

import json
import os
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.listeners import Sockets
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_process import (
    find_masters,
    read_nginx,
    started_with,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.survey import (
    Request,
    Survey,
)

FIXTURES = Path(__file__).parent / "fixtures"
DEPLOYED = (FIXTURES / "keepalive/nginx_1_22_deployed.txt").read_text()
BY_HAND = (FIXTURES / "keepalive/nginx_1_26_by_hand.txt").read_text()
TITLE = "nginx: master process /usr/sbin/nginx -g daemon on; master_process on;"
WORKER = "nginx: worker process"
# systemd 252 and 257: systemctl show
UNIT = (
    "TimeoutStartUSec=30s\nTimeoutStopUSec=1min 20s\nKillMode=mixed\n"
    "NeedDaemonReload=no\nWorkingDirectory=/\n"
)
STAT = "{0} ({1}) S {2} 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {3} 0 0\n"
# After any file of the fixtures was written.
LATER_TICKS = 4_000_000_000
GUNICORN = {
    "keepalive": 30,
    "timeout": 70,
    "graceful_timeout": 35,
    "workers": 2,
    "max_requests": 0,
    "backlog": 2048,
    "forwarded_allow_ips": "*",
    "worker_class": "uvicorn_worker.UvicornWorker",
    "version": "27.0.1",
}


class Host:
    """A /proc in a folder, and commands that answer as that host's do."""

    def __init__(self, proc: Path, dump: str, version: str) -> None:
        self.proc, self.dump, self.version = proc, dump, version
        self.refuses = ""
        self.calls: List[Sequence[str]] = []
        (proc / "net").mkdir()
        for name, table in (
            ("tcp", "keepalive/tcp_debian13.txt"),
            ("tcp6", "keepalive/tcp6_debian13.txt"),
            ("unix", "proc_net_unix.txt"),
        ):
            (proc / "net" / name).write_text((FIXTURES / table).read_text())
        (proc / "stat").write_text("btime 1700000000\n")
        self.add(0, "self", 0, "")

    def add(self, pid: int, name: str, parent: int, command: str) -> Path:
        folder = self.proc / (str(pid) if pid else "self")
        (folder / "fd").mkdir(parents=True)
        (folder / "ns").mkdir()
        (folder / "ns/pid").symlink_to("pid:[1]")
        (folder / "comm").write_text(name + "\n")
        (folder / "stat").write_text(STAT.format(pid, name, parent, LATER_TICKS))
        (folder / "cmdline").write_text(command)
        return folder

    def add_nginx(self) -> None:
        self.add(231, "nginx", 1, TITLE + "\0").joinpath("exe").symlink_to(
            "/usr/sbin/nginx"
        )
        for pid, title in ((474, WORKER), (475, WORKER), (476, WORKER + " is shut")):
            self.add(pid, "nginx", 231, title)

    def add_gunicorn(self, inode: int) -> None:
        for pid, parent in ((444, 1), (447, 444), (448, 444)):
            folder = self.add(pid, "python", parent, "/v/python\0-m\0gunicorn\0app:a\0")
            (folder / "fd/5").symlink_to("socket:[{0}]".format(inode))
            (folder / "environ").write_text("SECRET=hunter2\0")
            (folder / "cgroup").write_text("0::/system.slice/shop.service\n")
            (folder / "limits").write_text("Max open files   9216  9216  files\n")
            (folder / "status").write_text("Uid:\t9\t9\t9\t9\nGid:\t9\t9\t9\t9\n")
            (folder / "exe").symlink_to("/usr/bin/python3")
            (folder / "cwd").symlink_to("/")

    def __call__(
        self,
        argv: Sequence[str],
        *,
        cwd: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
    ) -> Tuple[int, str, str]:
        del cwd, env
        self.calls.append(argv)
        if "-T" in argv:
            return (1 if self.refuses else 0), self.dump, self.refuses
        if "-v" in argv:
            return 0, "", "nginx version: nginx/{0}\n".format(self.version)
        if argv[0] == "systemctl":
            return 0, UNIT, ""
        return 0, "keepalive.fastapi: {0}\n".format(json.dumps(GUNICORN)), ""

    def survey(self, **request: Any) -> Dict[str, Any]:
        own = Sockets(
            self.proc, lambda host: [ip_address(host)], lambda each: each.is_loopback
        )
        return Survey(Request(**request), self, self.proc, own).result()


@pytest.fixture
def deployed(tmp_path: Path) -> Host:
    # The captured sockets have the service demo, the dump alpha.
    dump = DEPLOYED.replace("/run/alpha/live.sock", "/run/demo/blue.sock")
    host = Host(tmp_path, dump.replace("proxy_read_timeout 45s", ""), "1.22.1")
    host.add_nginx()
    host.add_gunicorn(91671)
    return host


@pytest.fixture
def by_hand(tmp_path: Path) -> Host:
    host = Host(tmp_path, BY_HAND, "1.26.3")
    host.add_nginx()
    host.add_gunicorn(880962)
    return host


def severities(result: Dict[str, Any]) -> Dict[str, str]:
    return {each["id"]: each["severity"] for each in result["findings"]}


def test_a_deployed_service_has_no_findings(deployed: Host) -> None:
    result = deployed.survey()
    assert result["findings"] == []
    assert result["nginx"] == {
        "binary": "/usr/sbin/nginx",
        "version": "1.22.1",
        "running": True,
        "workers": 2,
        "keepalive_by_default": False,
        "worker_shutdown_timeout_s": None,
    }
    (upstream,) = result["upstreams"]
    assert upstream["kept_alive"]
    assert upstream["keepalive_total"] == 2 * 128
    (app,) = upstream["apps"]
    assert (app["pid"], app["workers"], app["connections"]) == (444, 2, 1)
    assert (app["unit"], app["stop_timeout_s"]) == ("shop.service", 80)
    assert app["settings"]["keepalive_s"] == 30
    assert {each["rule"] for each in app["chain"]} >= {"upstream_idle", "stop"}
    assert all(each["holds"] for each in app["chain"])


def test_no_secret_is_returned_or_shown_to_others(deployed: Host) -> None:
    assert "hunter2" not in json.dumps(deployed.survey())
    assert "hunter2" not in str(deployed.calls)


SABOTAGES = {
    "header": ("    location / {", "    location / {\n proxy_set_header X-Foo bar;"),
    "pool": ("    keepalive 128;", ""),
    "pool_zero": ("    keepalive 128;", "keepalive 0;"),
    "socket": ("http://keepalive_alpha;", "http://unix:/run/demo/blue.sock;"),
}


@pytest.mark.parametrize(
    ("sabotage", "version", "identity"),
    [
        ("header", "1.22.1", "connection_header_dropped"),
        ("header", "1.28.3", "connection_header_dropped"),
        ("pool", "1.22.1", "upstream_pool_zero"),
        ("pool_zero", "1.30.0", "upstream_pool_zero"),
        ("socket", "1.22.1", "upstream_implicit"),
        ("socket", "1.30.0", "upstream_implicit"),
    ],
)
def test_sabotage_is_an_error(
    deployed: Host, sabotage: str, version: str, identity: str
) -> None:
    before, after = SABOTAGES[sabotage]
    assert before in deployed.dump
    deployed.dump = deployed.dump.replace(before, after)
    deployed.version = version
    assert severities(deployed.survey())[identity] == "error"


def test_a_typical_site_by_hand(by_hand: Host) -> None:
    result = by_hand.survey()
    assert severities(result) == {
        "upstream_implicit": "error",
        "http_1_0": "error",
        "connection_close_default": "error",
        "forwarded_for_forged": "warning",
        "upstream_idle": "warning",
    }
    (app,) = result["upstreams"][0]["apps"]
    assert (app["address"], app["connections"]) == ("127.0.0.1:8000", 3)


def test_no_code_of_the_service_runs_where_that_is_not_wanted(by_hand: Host) -> None:
    result = by_hand.survey(load_settings=False)
    assert not [call for call in by_hand.calls if "-c" in call]
    assert result["upstreams"][0]["apps"][0]["settings"]["source"] == "command line"


def test_a_name_limits_to_its_sockets(deployed: Host) -> None:
    assert len(deployed.survey(name="demo")["upstreams"]) == 1
    with pytest.raises(KeepaliveError, match="name: nginx passes nothing on"):
        deployed.survey(name="shop")
    with pytest.raises(KeepaliveError, match="fastapi_service_name"):
        deployed.survey(name="../etc")


def test_a_configuration_that_nginx_refuses_is_an_error(deployed: Host) -> None:
    deployed.refuses = 'nginx: [emerg] unknown directive "nonsense" in a:3\n'
    with pytest.raises(KeepaliveError) as raised:
        deployed.survey()
    assert "unknown directive" in str(raised.value)
    assert "serves by an earlier one" in str(raised.value)
    assert "location" not in str(raised.value)


def test_without_nginx_the_error_says_what_to_do(tmp_path: Path) -> None:
    host = Host(tmp_path, "", "")
    with pytest.raises(KeepaliveError, match="install nginx, or name its path"):
        host.survey(binary="no-such-nginx")


def test_a_file_written_after_the_reload_is_not_in_force(
    deployed: Host, tmp_path: Path
) -> None:
    late = tmp_path / "late.conf"
    late.write_text("")
    os.utime(late, (9_999_999_999, 9_999_999_999))
    deployed.dump += "\n# configuration file {0}:\n".format(late)
    assert severities(deployed.survey()) == {"nginx_not_reloaded": "warning"}


def test_nginx_that_does_not_run_or_was_replaced(deployed: Host) -> None:
    exe = deployed.proc / "231/exe"
    exe.unlink()
    exe.symlink_to("/usr/sbin/nginx (deleted)")
    assert severities(deployed.survey()) == {"nginx_replaced": "warning"}
    # Its own version is asked of the program that runs.
    assert [str(exe), "-v"] in deployed.calls
    (deployed.proc / "231/cmdline").write_text("")
    given = deployed.survey(binary="sh")
    assert severities(given) == {"nginx_not_running": "error"}


def test_a_host_without_proxy_pass_has_nothing_to_judge(deployed: Host) -> None:
    deployed.dump = "# configuration file /etc/nginx/nginx.conf:\nhttp { }\n"
    assert severities(deployed.survey()) == {"no_upstream": "info"}


def test_the_master_of_this_system_and_its_options(deployed: Host) -> None:
    other = deployed.add(900, "nginx", 1, TITLE)
    (other / "ns/pid").unlink()
    (other / "ns/pid").symlink_to("pid:[2]")
    assert find_masters(deployed.proc) == [231]
    (deployed.proc / "231/cmdline").write_text(
        "nginx: master process nginx -c /opt/n.conf -p /opt"
    )
    read_nginx("", deployed, deployed.proc)
    assert ["/usr/sbin/nginx", "-T", "-c", "/opt/n.conf", "-p", "/opt"] in [
        list(call) for call in deployed.calls
    ]
    assert started_with(TITLE) == ("/usr/sbin/nginx", [])
