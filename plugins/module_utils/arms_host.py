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
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.answers import (
    Request,
    ask,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.arms import (
    CONTEXTS,
    Arm,
    Service,
    render,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.arms_app import (
    app_command,
    app_properties,
    check_gunicorn,
    read_unit,
    socket_properties,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.arms_page import (
    GUNICORN,
    render_page,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_config import (
    installed_version,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_tree import load
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_values import (
    parse_version,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.probe import (
    Probe,
    ask_socket,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    Runner,
    checked,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    Layout,
    live_slot,
    other,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd

UNIT = "keepalive-benchmark"
FOLDER = Path("/var/cache") / UNIT
_OURS = re.compile(UNIT + r"-(app|nginx)-[0-9]+\.(service|socket)")
_START_TIMEOUT_S = 30.0
_POLL_S = 0.05
# The arms' ports come first, those of the counters after so many.
_MOST_ARMS = 64


@dataclass(frozen=True)
class Wanted:
    """One arm as the task asks for it. Raises KeepaliveError for what it cannot be.

    ``kind`` is site (the service's nginx site), page (the configuration of the
    original page) or direct (the application on a TCP port, without nginx).
    ``gunicorn`` are options of Gunicorn that differ from the live slot's; with any,
    the arm has an application of its own. ``slot`` is live or other, whose application
    answers: during a trial the other is what ran before.
    """

    name: str
    kind: str
    upstream_pool: Optional[int] = None
    tls: bool = False
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    gunicorn: Mapping[str, object] = field(default_factory=dict)
    slot: str = "live"

    def __post_init__(self) -> None:
        check_gunicorn(self.gunicorn)
        if self.kind != "site" and (
            self.upstream_pool is not None or self.tls or self.settings
        ):
            raise KeepaliveError(
                "arms: {0} is of kind {1}, which takes no upstream_pool, tls or "
                "settings".format(self.name, self.kind)
            )
        if self.slot != "live" and self.own_app:
            raise KeepaliveError(
                "arms: {0} has an application of its own, which is in no slot".format(
                    self.name
                )
            )
        if self.upstream_pool is not None and self.upstream_pool < 0:
            raise KeepaliveError(
                "arms: upstream_pool of {0} is below 0".format(self.name)
            )
        for context, directives in self.settings.items():
            if context not in CONTEXTS or not isinstance(directives, dict):
                raise KeepaliveError(
                    "arms: settings of {0} has {1}; it takes dictionaries of "
                    "directives by context, which are {2}".format(
                        self.name, context, ", ".join(CONTEXTS)
                    )
                )

    @property
    def own_app(self) -> bool:
        return self.kind != "site" or bool(self.gunicorn)


@dataclass(frozen=True)
class Unit:
    """One process to start: its unit, what it runs, and where it will listen."""

    name: str
    argv: List[str]
    properties: List[str]
    listens: str
    config: str = ""
    socket_properties: Sequence[str] = ()


class Arms:
    """The arms of one service on this host. Raises KeepaliveError if it has none."""

    def __init__(
        self, layout: Layout, nginx: str, run: Runner, address: str = "127.0.0.1"
    ) -> None:
        self._layout = layout
        self._address = address
        self._nginx = nginx
        self._run = run
        self._slot = live_slot(layout) or ""

    def plan(self, wanted: Sequence[Wanted], first_port: int) -> List[Dict[str, Any]]:
        """Return where each arm is to be found, in the order given.

        Raises KeepaliveError for arms that could not be started.
        """
        return self._prepare(wanted, first_port)[1]

    def _prepare(
        self, wanted: Sequence[Wanted], first_port: int
    ) -> Tuple[Service, List[Dict[str, Any]], List[Unit]]:
        """Return the service, where each arm will be, and all that is to run."""
        if not 1 <= len(wanted) <= _MOST_ARMS:
            raise KeepaliveError(
                "arms: there are {0}; give 1 to {1}".format(len(wanted), _MOST_ARMS)
            )
        names = [each.name for each in wanted]
        if len(set(names)) != len(names):
            raise KeepaliveError("arms: a name stands twice; name each arm once")
        if not self._slot:
            raise KeepaliveError(
                "{0} has no live slot on this host; deploy it first".format(
                    self._layout.name
                )
            )
        placed = [
            self._place(each, first_port + number) for number, each in enumerate(wanted)
        ]
        if any(each.slot == "other" for each in wanted):
            self._refuse_idle(other(self._slot))
        service = self._service()
        return service, placed, self._units(service, wanted, placed)

    def _refuse_idle(self, slot: str) -> None:
        unit = self._layout.service_unit(slot)
        if not Systemd(self._run).is_active(unit):
            raise KeepaliveError(
                "arms: {0} does not run, so nothing can be measured against it; "
                "while a deployment is on trial it does".format(unit)
            )

    def _place(self, each: Wanted, port: int) -> Dict[str, Any]:
        slot = other(self._slot) if each.slot == "other" else self._slot
        unit = "{0}-app-{1}".format(UNIT, port)
        if each.kind == "direct":
            app = "{0}:{1}".format(self._address, port)
        elif each.own_app:
            app = "unix:/run/{0}/app.sock".format(unit)
        else:
            way = self._layout.live_link if each.slot == "live" else None
            app = "unix:{0}".format(way or self._layout.socket(slot))
        runs = self._layout.service_unit(slot)
        scheme = "https" if each.tls else "http"
        return {
            "name": each.name,
            "port": port,
            "url": "{0}://{1}:{2}".format(scheme, self._address, port),
            "app_socket": app,
            "app_unit": unit + ".service" if each.own_app else runs,
            "nginx_status_url": "",
        }

    def start(
        self, wanted: Sequence[Wanted], first_port: int, lifetime_s: int
    ) -> Dict[str, Any]:
        """Start all arms; on failure none is left. Raises KeepaliveError."""
        service, placed, units = self._prepare(wanted, first_port)
        self.stop()
        try:
            for unit in units:
                self._start(unit, lifetime_s)
        except BaseException:
            self.stop()
            raise
        return {"arms": placed, "conditions": self._conditions(service)}

    def running(self) -> List[str]:
        """Return the units of any benchmark on this host."""
        out = checked(
            self._run,
            ["systemctl", "list-units", "--all", "--plain", "--no-legend", UNIT + "-*"],
            "cannot list the units of earlier benchmarks",
        )
        names = [line.split()[0] for line in out.splitlines() if line.strip()]
        return [name for name in names if _OURS.fullmatch(name)]

    def stop(self) -> bool:
        """Stop the arms of any benchmark; tell whether there was one."""
        units = self.running()
        if units:
            Systemd(self._run).act("stop", units)
        left = FOLDER.exists()
        shutil.rmtree(FOLDER, ignore_errors=True)
        return bool(units) or left

    def _service(self) -> Service:
        dump = checked(
            self._run, [self._nginx, "-T"], "nginx does not accept what is in force"
        )
        version = installed_version(self._nginx, self._run) or ""
        return Service(
            load(dump),
            str(self._layout.site),
            parse_version(version),
        )

    def _conditions(self, service: Service) -> Dict[str, Any]:
        """Return what the figures depend on."""
        folder = self._layout.config_dir / self._slot
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

    def _units(
        self,
        service: Service,
        wanted: Sequence[Wanted],
        placed: Sequence[Dict[str, Any]],
    ) -> List[Unit]:
        """Return all that is to run; give each arm the address of its counters."""
        return [
            *self._apps(wanted, placed),
            *self._nginxes(service, wanted, placed),
        ]

    def _apps(
        self, wanted: Sequence[Wanted], placed: Sequence[Mapping[str, Any]]
    ) -> Iterator[Unit]:
        path = self._layout.files(self._slot)["service_unit"][0]
        live = read_unit(path.read_text(encoding="utf-8"), self._slot)
        for each, place in zip(wanted, placed):
            if each.own_app:
                page = GUNICORN if each.kind == "page" else {}
                options = {"backlog": 2048, **page, **each.gunicorn}
                name = place["app_unit"][: -len(".service")]
                yield Unit(
                    name,
                    app_command(live, options),
                    app_properties(live, name, options),
                    place["app_socket"],
                    socket_properties=socket_properties(
                        place["app_socket"], self._nginx_group(), options["backlog"]
                    ),
                )

    def _nginx_group(self) -> str:
        return self._layout.live_link.resolve().group()

    def _nginxes(
        self,
        service: Service,
        wanted: Sequence[Wanted],
        placed: Sequence[Dict[str, Any]],
    ) -> Iterator[Unit]:
        """Yield nginx processes: a page's arm is alone, others share if they can."""
        arms = {
            each.name: _arm(each, place, self._address)
            for each, place in zip(wanted, placed)
            if each.kind != "direct"
        }
        kinds = {each.name: each.kind for each in wanted}

        def key(name: str) -> Tuple[str, str]:
            page = kinds[name] == "page"
            return kinds[name], name if page else arms[name].shared_settings

        for number, (_key, names) in enumerate(groupby(sorted(arms, key=key), key)):
            members = list(names)
            port = placed[0]["port"] + _MOST_ARMS + number
            for place in placed:
                if place["name"] in members:
                    place["nginx_status_url"] = "http://{0}:{1}/status".format(
                        self._address, port
                    )
            folder = str(FOLDER / str(number))
            chosen = [arms[name] for name in members]
            if kinds[members[0]] == "page":
                text = render_page(chosen[0], self._nginx_group(), folder, port)
            else:
                text = render(service, chosen, folder, port)
            yield self._nginx_unit(number, folder, port, text)

    def _nginx_unit(self, number: int, folder: str, port: int, text: str) -> Unit:
        config = "{0}/nginx.conf".format(folder)
        return Unit(
            "{0}-nginx-{1}".format(UNIT, number),
            [self._nginx, "-c", config, "-g", "daemon off;"],
            ["ExecStopPost=/bin/rm -rf {0}".format(folder), "KillMode=mixed"],
            "{0}:{1}".format(self._address, port),
            text,
        )

    def _start(self, unit: Unit, lifetime_s: int) -> None:
        _refuse_taken(unit.listens)
        if unit.config:
            path = Path(unit.argv[2])
            # It may hold what the live configuration keeps from others.
            path.parent.mkdir(mode=0o700, parents=True)
            path.touch(mode=0o600)
            path.write_text(unit.config, encoding="utf-8")
        properties = ["RuntimeMaxSec={0}".format(lifetime_s), *unit.properties]
        cursor = Systemd(self._run).journal_cursor()
        checked(
            self._run,
            [
                *("systemd-run", "--quiet", "--collect", "--unit=" + unit.name),
                *("--property=" + each for each in properties),
                *("--socket-property=" + each for each in unit.socket_properties),
                *("--", *unit.argv),
            ],
            "cannot start {0}".format(unit.name),
        )
        self._wait_until_it_serves(unit, cursor)

    def _wait_until_it_serves(self, unit: Unit, cursor: str) -> None:
        give_up = time.monotonic() + _START_TIMEOUT_S
        while not _serves(unit):
            if time.monotonic() > give_up:
                log = Systemd(self._run).journal_since(unit.name + ".service", cursor)
                raise KeepaliveError(
                    "{0} does not answer on {1} after {2:.0f} s. Its log:\n{3}".format(
                        unit.name, unit.listens, _START_TIMEOUT_S, log
                    )
                )
            time.sleep(_POLL_S)


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
        socket=place["app_socket"] if each.own_app or each.slot == "other" else "",
    )


def _serves(unit: Unit) -> bool:
    """Tell whether a unit answers; an application's socket alone is there at once."""
    if unit.listens.startswith("unix:"):
        probe = Probe("/", 0, "localhost", "http")
        said = ask_socket(unit.listens[len("unix:") :], probe, _START_TIMEOUT_S)
        return said.startswith("status")
    try:
        ask(
            Request("http://{0}/".format(unit.listens), "GET", {}, "", _START_TIMEOUT_S)
        )
    except KeepaliveError:
        return False
    return True


def _refuse_taken(target: str) -> None:
    if target.startswith("unix:"):
        return
    host, _colon, port = target.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise KeepaliveError(
                "cannot listen on {0}: {1}; choose another address or "
                "first_port".format(target, error)
            ) from error
