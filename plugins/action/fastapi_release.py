# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of fastapi_release: hash the source, send it only when needed."""

from __future__ import annotations

import os
import posixpath
import tempfile
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release_request import (
    ARGUMENTS,
    SHIPMENT_ARGUMENTS,
    check_package,
    normal_requirements,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release_source import (
    Entry,
    list_tree,
    list_wheels,
    tree_digest,
    write_archive,
)

_MODULE = "keepalive.fastapi.fastapi_release"


@dataclass(frozen=True)
class Shipment:
    """Files of the controller, and the module's arguments that tell of them."""

    root: str
    entries: List[Entry]
    digest_argument: str
    archive_argument: str


class ActionModule(ActionBase):  # type: ignore[misc]
    """One module call when the release exists; a transfer and a second when not."""

    _supports_check_mode = True

    def run(
        self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None
    ) -> Dict[str, Any]:
        """Run the task; raises AnsibleActionFail before anything remote is done."""
        super().run(tmp, task_vars)
        try:
            shipments = self._shipments()
            args = dict(self._task.args)
            for shipment in shipments:
                digest = tree_digest(shipment.root, shipment.entries)
                args[shipment.digest_argument] = digest
            result = self._run_module(args, task_vars)
            if not result.pop("needs_transfer", False):
                return result
            args.update(self._transfer(shipments))
        except (KeepaliveError, OSError) as error:
            raise AnsibleActionFail(str(error)) from error
        return self._run_module(args, task_vars)

    def _run_module(
        self, args: Dict[str, Any], task_vars: Optional[Dict[str, Any]]
    ) -> Dict[str, Any]:
        result: Dict[str, Any] = self._execute_module(
            module_name=_MODULE, module_args=args, task_vars=task_vars
        )
        return result

    def _shipments(self) -> List[Shipment]:
        """Return what the controller has to offer for this release."""
        for argument in SHIPMENT_ARGUMENTS:
            if argument in self._task.args:
                raise KeepaliveError(
                    "{0}: set by the action plugin itself; drop it.".format(argument)
                )
        _result, params = self.validate_argument_spec(ARGUMENTS)
        if params["state"] == "absent":
            return []
        if bool(params["source_path"]) == bool(params["package"]):
            raise KeepaliveError(
                "Give exactly one of fastapi_service_source_path and "
                "fastapi_service_package."
            )
        check_package((params["package"] or "").strip())
        found = []
        if params["source_path"]:
            found.append(self._source(params))
        if params["wheel_dir"]:
            root = self._loader.path_dwim(params["wheel_dir"])
            wheels = list_wheels(root)
            found.append(Shipment(root, wheels, "wheels_digest", "wheels_archive"))
        return found

    def _source(self, params: Dict[str, Any]) -> Shipment:
        root = self._loader.path_dwim(params["source_path"])
        entries = list_tree(root, params["source_exclude"])
        requirements = normal_requirements(params["requirements"])
        if requirements and requirements not in {entry.path for entry in entries}:
            raise KeepaliveError(
                "fastapi_service_requirements: there is no file {0} in {1}, or "
                "fastapi_service_source_exclude leaves "
                "it out.".format(requirements, root)
            )
        return Shipment(root, entries, "content_digest", "archive")

    def _transfer(self, shipments: List[Shipment]) -> Dict[str, str]:
        """Pack and send; return the archives' paths on the target by argument.

        The directory on the target is the task's own: ActionBase.cleanup removes
        it when the task ends, however it ends.
        """
        remote_dir = self._connection._shell.tmpdir or self._make_tmp_path()
        sent = {}
        with tempfile.TemporaryDirectory(dir=constants.DEFAULT_LOCAL_TMP) as local_dir:
            for shipment in shipments:
                name = "{0}.tar.gz".format(shipment.archive_argument)
                archive = os.path.join(local_dir, name)
                write_archive(shipment.root, shipment.entries, archive)
                remote = posixpath.join(remote_dir, name)
                self._transfer_file(archive, remote)
                sent[shipment.archive_argument] = remote
        self._fixup_perms2([remote_dir, *sent.values()])
        return sent
