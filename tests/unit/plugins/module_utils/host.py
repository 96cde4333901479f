# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that is a folder, with a model of systemd and a clock."""

from __future__ import annotations

import grp
import os
import shutil
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set

from ansible_collections.keepalive.fastapi.plugins.module_utils.deployment import Plan
from ansible_collections.keepalive.fastapi.plugins.module_utils.probe import Probe
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import Result
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    Layout,
    SlotFiles,
)

GROUP = grp.getgrgid(os.getgid()).gr_name
PLAN = Plan(
    files=SlotFiles(
        release="one\n",
        gunicorn_config="workers = 2\n",
        environment="",
        service_unit="[Service]\n",
        socket_unit="[Socket]\n",
    ),
    probe=Probe("/health", 200, "localhost", "http"),
    socket_group=GROUP,
    start_timeout_s=30,
    drain_timeout_s=60,
)
UNIX_HEADER = "Num       RefCount Protocol Flags    Type St Inode Path\n"
UNIX_LINE = "0000000000000000: 00000003 00000000 00000000 0001 03 1 {0}\n"
# systemctl's verbs that leave the host as it is.
READS = {"show"}


class PowerLossError(BaseException):
    """The switch ends here and cleans up nothing."""


@dataclass
class Unit:
    active: str = "inactive"
    enabled: bool = False
    restarts: int = 0
    result: str = "success"


@dataclass
class Host:
    """systemd, the application behind each slot, nginx's connections and time.

    An application is what its release is called: ``crash`` and ``fail`` end as
    they start, ``hang`` never answers, ``500`` does with that status, ``slow``
    is ready after five seconds, ``ponder`` takes 3.5 seconds for each answer.
    Any other is ready at once.
    """

    layout: Layout
    now: float = 1000.0
    units: Dict[str, Unit] = field(default_factory=dict)
    connections: Dict[str, int] = field(default_factory=dict)
    calls: List[List[str]] = field(default_factory=list)
    later: List[Any] = field(default_factory=list)
    owners: Dict[Path, Any] = field(default_factory=dict)
    power_loss_at: Set[str] = field(default_factory=set)

    def __call__(
        self,
        argv: Sequence[str],
        *,
        cwd: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
    ) -> Result:
        assert cwd is None
        assert env is None
        program, *words = argv
        if program == "journalctl":
            return 0, self._journal(words), ""
        verb, *names = [word for word in words if not word.startswith("-")]
        if verb == "show":
            return 0, self._show(names[1], names[0].split(",")), ""
        self.calls.append([verb, *names])
        for name in names:
            if "{0} {1}".format(verb, name) in self.power_loss_at:
                raise PowerLossError
            if verb == "enable" and not self._has_file(name):
                return (
                    1,
                    "",
                    "Failed to enable unit: Unit {0} does not exist".format(name),
                )
            getattr(self, "_" + verb.replace("-", "_"))(name)
        return 0, "", ""

    def _has_file(self, name: str) -> bool:
        return (self.layout.root / "etc/systemd/system" / name).exists()

    def _journal(self, words: List[str]) -> str:
        if "--show-cursor" in words:
            return "-- cursor: s=1;i=2\n"
        assert "--after-cursor=s=1;i=2" in words
        return "ModuleNotFoundError: No module named 'shop'\n"

    def _show(self, name: str, properties: List[str]) -> str:
        unit = self.unit(name)
        known = self._has_file(name)
        enabled = "enabled" if unit.enabled else "disabled"
        values = {
            "ActiveState": unit.active,
            "LoadState": "loaded" if known else "not-found",
            "NRestarts": str(unit.restarts),
            "Result": unit.result,
            "UnitFileState": enabled if known else "",
        }
        return "".join("{0}={1}\n".format(name, values[name]) for name in properties)

    def _reset_failed(self, name: str) -> None:
        self.unit(name).restarts = 0
        self.unit(name).result = "success"

    def _start(self, name: str) -> None:
        if self.unit(name).active == "active":
            return
        slot = name.partition("@")[2].partition(".")[0]
        if name.endswith(".socket"):
            path = self.layout.socket(slot)
            if not path.exists():
                with socket.socket(socket.AF_UNIX) as listener:
                    listener.bind(str(path))
            self._link_spare(slot)
            self.units[name] = replace(self.unit(name), active="active")
            return
        release = self.layout.files(slot)["release"][0].read_text().strip()
        ends: Dict[str, Dict[str, Any]] = {
            "crash": {"active": "activating", "restarts": 1, "result": "exit-code"},
            "fail": {"active": "failed", "result": "timeout"},
        }
        state = ends.get(release, {"active": "active"})
        self.units[name] = replace(self.unit(name), **state)

    def _link_spare(self, slot: str) -> None:
        spare = self.layout.spare_socket(slot)
        spare.unlink(missing_ok=True)
        if spare.parent.is_dir():
            os.link(self.layout.socket(slot), spare)

    def _restart(self, name: str) -> None:
        # The timer of a trial, which is no unit that a boot finds again.
        assert name == self.layout.revert_timer.name
        self.units[name] = replace(self.unit(name), active="active")

    def _kill(self, name: str) -> None:
        self.unit(name).active = "failed"

    def _stop(self, name: str) -> None:
        self.unit(name).active = "inactive"
        if name.endswith(".socket"):
            slot = name.partition("@")[2].partition(".")[0]
            self.layout.socket(slot).unlink(missing_ok=True)
            self.layout.spare_socket(slot).unlink(missing_ok=True)
            self.connect(slot, 0)

    def _enable(self, name: str) -> None:
        self.unit(name).enabled = True

    def _disable(self, name: str) -> None:
        self.unit(name).enabled = False

    def _daemon_reload(self, name: str) -> None:
        raise AssertionError(name)

    def unit(self, name: str) -> Unit:
        return self.units.setdefault(name, Unit())

    def ask(self, path: str, probe: Probe, timeout_s: float) -> str:
        """Stand for ask_socket, which has tests of its own."""
        slot = Path(path).name.partition(".")[0]
        assert self.unit(self.layout.socket_unit(slot)).active == "active"
        release = self.layout.files(slot)["release"][0].read_text().strip()
        if release == "hang":
            self.sleep(timeout_s)
            return "no answer in time"
        if release == "ponder":
            self.sleep(min(timeout_s, 3.5))
            return "" if timeout_s > 3.5 else "no answer in time"
        if release == "slow" and self.now < 1005:
            return "no answer: ConnectionRefusedError()"
        status = 500 if release == "500" else 200
        if status != probe.status:
            return "status {0} instead of {1}".format(status, probe.status)
        return ""

    def connect(self, slot: str, number: int) -> None:
        """Set how many connections nginx holds to a slot."""
        self.connections[slot] = number
        lines = [
            UNIX_LINE.format(self.layout.socket(slot)) * number
            for slot, number in self.connections.items()
        ]
        self.proc_net_unix.write_text(UNIX_HEADER + "".join(lines))

    @property
    def proc_net_unix(self) -> Path:
        return self.layout.root / "proc_net_unix"

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        self.later.append((self.now + seconds, event))

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        due = [event for at, event in self.later if at <= self.now]
        self.later = [(at, event) for at, event in self.later if at > self.now]
        for event in due:
            event()

    def reboot(self) -> None:
        """Empty /run, then let systemd-tmpfiles and the enabled units bring it back."""
        for folder in self.layout.socket_dirs:
            shutil.rmtree(folder)
        self.layout.revert_timer.unlink(missing_ok=True)
        for name, unit in self.units.items():
            self.units[name] = Unit(enabled=unit.enabled)
        words = self.layout.tmpfiles.read_text().split()
        for link in (self.layout.live_link, self.layout.spare_link):
            link.parent.mkdir()
            link.symlink_to(words[-1])
        for name in sorted(n for n, unit in self.units.items() if unit.enabled):
            self._start(name)

    def running(self) -> List[str]:
        return sorted(n for n, unit in self.units.items() if unit.active == "active")

    def enabled(self) -> List[str]:
        return sorted(n for n, unit in self.units.items() if unit.enabled)

    def tree(self) -> Dict[str, str]:
        """Return every file, link and socket of the host but its model's own."""
        found = {}
        for path in sorted(self.layout.root.rglob("*")):
            name = str(path.relative_to(self.layout.root))
            if path.is_symlink():
                found[name] = "-> " + os.readlink(path)
            elif path.is_file() and path != self.proc_net_unix:
                found[name] = path.read_text()
            elif path.is_socket():
                found[name] = "socket"
        return found


def plan(release: str, **changes: Any) -> Plan:
    files = replace(PLAN.files, release=release + "\n")
    return replace(PLAN, files=files, **changes)
