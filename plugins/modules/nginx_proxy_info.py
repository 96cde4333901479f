#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_proxy_info
short_description: Tell what a host lacks of an nginx that systemd keeps running
version_added: 0.1.0
description:
  - Reads in one go what the role P(keepalive.fastapi.nginx_proxy#role) would otherwise
    ask of four modules, so that a run that has nothing to do is over soon. Changes
    nothing.
  - Runs on hosts with Debian's package manager.
author: keepalive.fastapi contributors (@keepalive)
options:
  packages:
    description:
      - Packages that the host should have, named as M(ansible.builtin.apt) takes them.
    type: list
    elements: str
    default: []
  files:
    description: Text of files, by path, that root should own with mode 0644.
    type: dict
    default: {}
  absent:
    description: Paths that should not be there.
    type: list
    elements: path
    default: []
extends_documentation_fragment: [keepalive.fastapi.reads_only]
"""

EXAMPLES = r"""
- name: Ask whether there is anything to install
  keepalive.fastapi.nginx_proxy_info:
    packages: [nginx]
  register: host
"""

RETURN = r"""
processors:
  description: Processors that this host's processes may use.
  returned: success
  type: int
  sample: 4
missing_packages:
  description:
    - Those of O(packages) that are not installed, and those of which only apt can tell,
      such as a virtual package.
  returned: success
  type: list
  elements: str
  sample: []
differing_files:
  description:
    - Those of O(files) that are not as they should be, and of O(absent) that are there.
  returned: success
  type: list
  elements: str
  sample: []
nginx_conf_sha256:
  description:
    - Checksum of C(/etc/nginx/nginx.conf); empty if there is none, or if
      M(keepalive.fastapi.nginx_config) has more to do than its text, such as a reload
      that an earlier run owes.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
nginx_version:
  description: Version of the installed nginx; empty if there is none.
  returned: success
  type: str
  sample: 1.26.3
runs_now_and_at_boot:
  description:
    - Whether systemd runs C(nginx.service), starts it at boot, and has read its unit as
      it stands on disk.
  returned: success
  type: bool
  sample: true
"""

import os
import stat
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_config import (
    find_nginx,
    installed_version,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_files import (
    CONFIG_DIR,
    settled_sha256,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.packages import missing
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    module_runner,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd

IN_ORDER = {
    "ActiveState": "active",
    "UnitFileState": "enabled",
    "NeedDaemonReload": "no",
}


def is_as_wanted(path: Path, text: str) -> bool:
    """Tell whether a file of root's has that text and mode 0644."""
    try:
        known = path.stat()
        return (
            (stat.S_IMODE(known.st_mode), known.st_uid, known.st_gid) == (0o644, 0, 0)
        ) and path.read_bytes() == text.encode("utf-8")
    except FileNotFoundError:
        return False


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "default": []},
            "files": {"type": "dict", "default": {}},
            "absent": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    run = module_runner(module.run_command)
    files: t.Dict[str, str] = module.params["files"]
    try:
        module.exit_json(
            processors=len(os.sched_getaffinity(0)),
            nginx_version=installed_version(find_nginx("nginx"), run) or "",
            missing_packages=missing(module.params["packages"], run),
            differing_files=[
                path for path in files if not is_as_wanted(Path(path), files[path])
            ]
            + list(filter(os.path.lexists, module.params["absent"])),
            nginx_conf_sha256=settled_sha256(CONFIG_DIR / "nginx.conf"),
            runs_now_and_at_boot=Systemd(run).show("nginx.service", *IN_ORDER)
            == IN_ORDER,
        )
    except (KeepaliveError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
