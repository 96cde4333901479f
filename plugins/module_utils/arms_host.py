# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the arms of a benchmark on a host, and take them away.

Everything runs in transient units of systemd that end by themselves, whatever
becomes of the controller, and that remove their files when they end.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import time
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.arms import (
    Arm,
    Service,
    render,
    version_numbers,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.arms_page import (
    GUNICORN,
    render_page,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_tree import load
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    Runner,
    checked,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    Layout,
    live_slot,
)

UNIT = "keepalive-benchmark"
FOLDER = Path("/var/cache") / UNIT
_START_TIMEOUT_S = 30.0
_POLL_S = 0.05
# The arms' ports come first, those of the counters after so many.
_MOST_ARMS = 64


@dataclass(frozen=True)
class Wanted:
    """One arm as the task asks for it.

    ``kind`` is site (the service's nginx site), page (the configuration of the
    original page) or direct (the application on a TCP port, without nginx).
    ``gunicorn`` are options of Gunicorn that differ from the live slot's; with any,
    the arm has an application of its own.
    """

    name: str
    kind: str
    upstream_pool: Any
    tls: bool
    settings: Mapping[str, Mapping[str, object]]
    gunicorn: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Unit:
    """One process to start: its unit, what it runs, and where it will listen."""

    name: str
    argv: List[str]
    properties: List[str]
    port: int
    config: str = ""


class Arms:
    """The arms of one service on this host."""

    def __init__(
        self, layout: Layout, nginx: str, run: Runner, address: str = "127.0.0.1"
    ) -> None:
        self._layout = layout
        self._address = address
        self._nginx = nginx
        self._run = run

    def plan(self, wanted: Sequence[Wanted], first_port: int) -> List[Dict[str, Any]]:
        """Return where each arm is to be found, in the order given."""
        if not 1 <= len(wanted) <= _MOST_ARMS:
            raise KeepaliveError(
                "arms: there are {0}; give 1 to {1}".format(len(wanted), _MOST_ARMS)
            )
        names = [each.name for each in wanted]
        if len(set(names)) != len(names):
            raise KeepaliveError("arms: a name stands twice; name each arm once")
        return [
            self._place(each, first_port + number) for number, each in enumerate(wanted)
        ]

    def _place(self, each: Wanted, port: int) -> Dict[str, Any]:
        own_app = each.kind != "site" or bool(each.gunicorn)
        live = live_slot(self._layout) or ""
        unit = "{0}-app-{1}.service".format(UNIT, port)
        if each.kind == "direct":
            app = "{0}:{1}".format(self._address, port)
        elif own_app:
            app = "unix:/run/{0}-app-{1}/app.sock".format(UNIT, port)
        else:
            app = "unix:{0}".format(self._layout.live_link)
        return {
            "name": each.name,
            "port": port,
            "url": "{0}://{1}:{2}".format(
                "https" if each.tls else "http", self._address, port
            ),
            "app_socket": app,
            "app_unit": unit if own_app else self._layout.service_unit(live),
            "own_app": own_app,
        }

    def start(
        self, wanted: Sequence[Wanted], first_port: int, lifetime_s: int
    ) -> Dict[str, Any]:
        """Start all arms; on failure none is left. Raises KeepaliveError."""
        self.stop()
        placed = self.plan(wanted, first_port)
        try:
            service = self._service()
            units = list(self._apps(wanted, placed))
            nginx, status = self._nginxes(service, wanted, placed)
            for unit in (*units, *nginx):
                self._start(unit, lifetime_s)
        except BaseException:
            self.stop()
            raise
        for each in placed:
            each["nginx_status_url"] = status.get(each["name"], "")
        return {"arms": placed, "conditions": self._conditions(service)}

    def _conditions(self, service: Service) -> Dict[str, Any]:
        """Return what the figures depend on."""
        live = live_slot(self._layout) or ""
        folder = self._layout.config_dir / live
        config = (folder / "gunicorn.conf.py").read_text(encoding="utf-8")
        system = Path("/etc/os-release").read_text(encoding="utf-8")
        return {
            "operating_system": _value(system, "PRETTY_NAME"),
            "kernel": platform.release(),
            "cores": len(os.sched_getaffinity(0)),
            "nginx_version": ".".join(map(str, service.nginx_version)),
            "release": (folder / "release").read_text(encoding="utf-8").strip(),
            "app_workers": int(_value(config, "workers") or 0),
            "app_worker_class": _value(config, "worker_class"),
        }

    def stop(self) -> bool:
        """Stop every arm of any benchmark; tell whether there was one."""
        pattern = "{0}-*.service".format(UNIT)
        out = checked(
            self._run,
            ["systemctl", "list-units", "--all", "--plain", "--no-legend", pattern],
            "cannot list the units of earlier benchmarks",
        )
        units = [line.split()[0] for line in out.splitlines() if line.strip()]
        if units:
            checked(
                self._run,
                ["systemctl", "stop", "--", *units],
                "cannot stop the arms of an earlier benchmark",
            )
        left = FOLDER.exists()
        shutil.rmtree(FOLDER, ignore_errors=True)
        return bool(units) or left

    def _version(self) -> str:
        _status, out, err = self._run([self._nginx, "-v"])
        return (err or out).partition("nginx/")[2].split()[0]

    def _service(self) -> Service:
        dump = checked(
            self._run, [self._nginx, "-T"], "nginx does not accept what is in force"
        )
        return Service(
            load(dump),
            str(self._layout.site),
            str(self._layout.live_link),
            version_numbers(self._version()),
        )

    def _apps(
        self, wanted: Sequence[Wanted], placed: Sequence[Mapping[str, Any]]
    ) -> Iterator[Unit]:
        live = live_slot(self._layout)
        if live is None:
            raise KeepaliveError(
                "{0} has no live slot on this host; deploy it first".format(
                    self._layout.name
                )
            )
        folder = self._layout.config_dir / live
        release = (folder / "release").read_text(encoding="utf-8").strip()
        python = self._layout.releases_dir / release / "venv/bin/python"
        for each, place in zip(wanted, placed):
            if not place["own_app"]:
                continue
            options = {**(GUNICORN if each.kind == "page" else {}), **each.gunicorn}
            flags = [
                word
                for name, value in options.items()
                for word in ("--" + name, str(value))
            ]
            name = place["app_unit"][: -len(".service")]
            yield Unit(
                name,
                [
                    *(str(python), "-m", "gunicorn", "--config"),
                    *(str(folder / "gunicorn.conf.py"), "--umask", "7"),
                    *("--bind", place["app_socket"], *flags),
                ],
                [
                    "User={0}".format(self._user()),
                    "Group={0}".format(self._nginx_user()),
                    "RuntimeDirectory={0}".format(name),
                    "EnvironmentFile={0}".format(folder / "environment"),
                    "TimeoutStopSec=10",
                    "KillMode=mixed",
                ],
                place["port"] if each.kind == "direct" else 0,
            )

    def _user(self) -> str:
        unit = self._layout.service_unit(live_slot(self._layout) or "")
        out = checked(
            self._run,
            ["systemctl", "show", "--property=User", "--value", "--", unit],
            "cannot read the user of {0}".format(unit),
        )
        return out.strip()

    def _nginx_user(self) -> str:
        return self._layout.live_link.resolve().group()

    def _nginxes(
        self,
        service: Service,
        wanted: Sequence[Wanted],
        placed: Sequence[Mapping[str, Any]],
    ) -> Tuple[List[Unit], Dict[str, str]]:
        """Return the nginx processes, and the counters' address for each arm."""
        arms = [
            (each.kind, _arm(each, place, self._address))
            for each, place in zip(wanted, placed)
            if each.kind != "direct"
        ]
        # A page's arm is alone in its nginx; the others share one where they can.
        key = [
            (kind, arm.name if kind == "page" else arm.shared_settings)
            for kind, arm in arms
        ]
        order = sorted(range(len(arms)), key=key.__getitem__)
        units, status = [], {}
        for number, (_key, group) in enumerate(groupby(order, key.__getitem__)):
            members = [arms[index] for index in group]
            port = placed[0]["port"] + _MOST_ARMS + number
            units.append(self._nginx_unit(service, members, number, port))
            for _kind, arm in members:
                status[arm.name] = "http://{0}:{1}/status".format(self._address, port)
        return units, status

    def _nginx_unit(
        self,
        service: Service,
        members: Sequence[Tuple[str, Arm]],
        number: int,
        status_port: int,
    ) -> Unit:
        name = "{0}-nginx-{1}".format(UNIT, number)
        folder = str(FOLDER / str(number))
        kind, first = members[0]
        if kind == "page":
            text = render_page(first, self._nginx_user(), folder, status_port)
        else:
            text = render(service, [arm for _kind, arm in members], folder, status_port)
        config = "{0}/nginx.conf".format(folder)
        return Unit(
            name,
            [self._nginx, "-c", config, "-g", "daemon off;"],
            ["ExecStopPost=/bin/rm -rf {0}".format(folder), "KillMode=mixed"],
            status_port,
            text,
        )

    def _start(self, unit: Unit, lifetime_s: int) -> None:
        if unit.port:
            _refuse_taken(self._address, unit.port)
        if unit.config:
            path = Path(unit.argv[2])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(unit.config, encoding="utf-8")
        properties = ["RuntimeMaxSec={0}".format(lifetime_s), *unit.properties]
        checked(
            self._run,
            [
                *("systemd-run", "--quiet", "--collect", "--unit=" + unit.name),
                *("--property=" + each for each in properties),
                *("--", *unit.argv),
            ],
            "cannot start {0}".format(unit.name),
        )
        if unit.port:
            self._wait(unit)

    def _wait(self, unit: Unit) -> None:
        give_up = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < give_up:
            with socket.socket() as client:
                if client.connect_ex((self._address, unit.port)) == 0:
                    return
            time.sleep(_POLL_S)
        _status, out, _err = self._run(
            ["journalctl", "--unit=" + unit.name, "--lines=20", "--output=cat"]
        )
        raise KeepaliveError(
            "{0} does not listen on port {1}. Its log:\n{2}".format(
                unit.name, unit.port, out.strip()
            )
        )


def _value(text: str, name: str) -> str:
    """Return what a line of the form NAME=value or NAME = value gives."""
    found = re.search(r"^{0} ?= ?(.*)$".format(name), text, re.MULTILINE)
    return found.group(1).strip("\"'") if found else ""


def _arm(each: Wanted, place: Mapping[str, Any], address: str) -> Arm:
    return Arm(
        name=each.name,
        port=place["port"],
        address=address,
        upstream_pool=each.upstream_pool,
        tls=each.tls,
        settings=each.settings,
        socket=place["app_socket"] if place["own_app"] else "",
    )


def _refuse_taken(address: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise KeepaliveError(
                "cannot listen on {0}:{1}: {2}; choose another address or "
                "first_port".format(address, port, error)
            ) from error
