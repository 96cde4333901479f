# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service is to run, and how the switch to it is judged."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Dict, Mapping

from ansible_collections.keepalive.fastapi.plugins.module_utils.probe import Probe
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import SlotFiles


@dataclass(frozen=True)
class Plan:
    """What a switch is to reach, and how long each wait may last (seconds)."""

    files: SlotFiles
    probe: Probe
    socket_group: str
    start_timeout_s: int
    drain_timeout_s: int

    @property
    def release(self) -> str:
        return self.files.release.strip()


@dataclass(frozen=True)
class Deployment:
    """A plan and the text of the nginx site that goes with it."""

    plan: Plan
    site: str

    @property
    def key(self) -> str:
        """Return what tells apart two deployments that behave differently."""
        digest = sha256()
        for text in (*asdict(self.plan.files).values(), self.site):
            digest.update(sha256(text.encode("utf-8")).digest())
        return digest.hexdigest()[:16]

    def as_dict(self) -> Dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)


def deployment_of(known: Mapping[str, Any]) -> Deployment:
    """Return what ``as_dict`` gave. Raises KeyError or TypeError for anything else."""
    plan = dict(known["plan"])
    plan["files"] = SlotFiles(**plan["files"])
    plan["probe"] = Probe(**plan["probe"])
    return Deployment(Plan(**plan), known["site"])
