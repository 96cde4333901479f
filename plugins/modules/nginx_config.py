#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_config
short_description: Replace files of the nginx configuration, validated as a whole
version_added: 0.1.0
author: keepalive.fastapi contributors (@keepalive)
description:
  - Puts a set of files under the nginx configuration directory in place as one
    step. Either all of them are in force afterwards, or none.
  - The new configuration is tested as a whole before any file changes, on a copy
    that nginx sees in place of the real directory. This needs C(unshare) and
    C(mount) from util-linux on the host, and root with C(CAP_SYS_ADMIN).
  - A port that another program holds is refused too, which C(nginx -t) does not
    notice. Host names in C(listen) are not looked up for this.
  - A running nginx is reloaded, and the task succeeds only once a new worker
    process runs. Otherwise the old files are put back.
options:
  files:
    description:
      - The files to put in place.
      - A symbolic link at one of the paths is replaced by a file.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description:
          - Path relative to O(config_dir), for example V(conf.d/shop.conf).
          - It may not be absolute, hold C(..), or pass through a symbolic link.
            Missing directories are made.
        type: str
        required: true
      content:
        description: The whole content of the file. It is shown in the diff.
        type: str
        required: true
      mode:
        description: The permissions, as a quoted octal number with a leading zero.
        type: str
        default: "0644"
  absent:
    description: Paths, relative to O(config_dir), of files or links to remove.
    type: list
    elements: str
    default: []
  config_dir:
    description: The directory that holds C(nginx.conf).
    type: path
    default: /etc/nginx
  binary:
    description:
      - The nginx program, as a name or a path.
      - A name is looked up on C(PATH), then in C(/usr/sbin) and C(/sbin).
    type: str
    default: nginx
  reload:
    description:
      - Whether to reload nginx after a change, if it runs.
      - It runs if the process that C(/run/nginx.pid) names is called C(nginx).
    type: bool
    default: true
  reload_timeout_s:
    description: Seconds to wait for a new worker process after the reload.
    type: int
    default: 30
  validate_in_check_mode:
    description:
      - Whether check mode tests the new configuration. V(false) where an earlier
        task of the same run would have changed what it needs. Otherwise it is
        always tested.
    type: bool
    default: true
  hint:
    description:
      - What to say after a refusal, for example the variables that the files are
        made from.
    type: str
    default: ""
attributes:
  check_mode:
    description: >-
      Validates the new configuration too, unless O(validate_in_check_mode) is
      V(false), and changes nothing. Where nginx is not
      installed yet, it warns that it could not validate.
    support: full
  diff_mode:
    description: Shows the content of each file before and after.
    support: full
  idempotent:
    description: >-
      Files that are what they shall be are neither written nor validated, and nginx
      is not reloaded. If an earlier task was killed before nginx had reloaded, the
      next one reloads it.
    support: full
"""

EXAMPLES = r"""
- name: Serve the shop, and nothing else
  keepalive.fastapi.nginx_config:
    files:
      - path: conf.d/shop.conf
        content: "{{ lookup('ansible.builtin.template', 'shop.conf.j2') }}"
    absent:
      - sites-enabled/default
  become: true

- name: Write the main configuration before nginx is started for the first time
  keepalive.fastapi.nginx_config:
    files:
      - path: nginx.conf
        content: "{{ lookup('ansible.builtin.template', 'nginx.conf.j2') }}"
    reload: false
  become: true
"""

RETURN = r"""
diff:
  description: Each changed file before and after, with its mode in the headers.
  returned: success
  type: list
  elements: dict
files:
  description: Paths of the files that were written, as given in O(files).
  returned: success
  type: list
  elements: str
  sample: [conf.d/shop.conf]
removed:
  description: Paths of the files that were removed, as given in O(absent).
  returned: success
  type: list
  elements: str
  sample: [sites-enabled/default]
validated:
  description: Whether nginx tested and accepted the configuration in this task.
  returned: success
  type: bool
applied:
  description: Whether the change was made, which check mode does not.
  returned: success
  type: bool
reloaded:
  description: Whether nginx was reloaded. V(false) if it does not run.
  returned: success
  type: bool
seconds_to_reload:
  description: Seconds from the reload to the first new worker, or V(null).
  returned: success
  type: float
  sample: 0.041
nginx_version:
  description: Version of the installed nginx, or V(null).
  returned: success
  type: str
  sample: 1.26.3
"""

from pathlib import Path
from tempfile import gettempdir

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_config import (
    Host,
    Request,
    configure,
    find_nginx,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_files import (
    parse_absent,
    parse_files,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    module_runner,
)

_FILE_OPTIONS = {
    "path": {"type": "str", "required": True},
    "content": {"type": "str", "required": True},
    "mode": {"type": "str", "default": "0644"},
}
_OPTIONS = {
    "files": {
        "type": "list",
        "elements": "dict",
        "options": _FILE_OPTIONS,
        "default": [],
    },
    "absent": {"type": "list", "elements": "str", "default": []},
    "config_dir": {"type": "path", "default": "/etc/nginx"},
    "binary": {"type": "str", "default": "nginx"},
    "reload": {"type": "bool", "default": True},
    "reload_timeout_s": {"type": "int", "default": 30},
    "validate_in_check_mode": {"type": "bool", "default": True},
    "hint": {"type": "str", "default": ""},
}


def main() -> None:
    module = AnsibleModule(argument_spec=_OPTIONS, supports_check_mode=True)
    given = module.params
    try:
        files = parse_files(given["files"])
        request = Request(
            files=files,
            absent=parse_absent(given["absent"], files),
            config_dir=Path(given["config_dir"]),
            reload=given["reload"],
            reload_timeout_s=given["reload_timeout_s"],
            validate_in_check_mode=given["validate_in_check_mode"],
        )
        host = Host(nginx=find_nginx(given["binary"]), scratch_dir=gettempdir())
        outcome = configure(
            request,
            host,
            module_runner(module.run_command),
            check_mode=module.check_mode,
        )
    except KeepaliveError as error:
        module.fail_json(msg="\n".join(filter(None, [str(error), given["hint"]])))
    for warning in outcome.warnings:
        module.warn(warning)
    module.exit_json(**outcome.as_result())


if __name__ == "__main__":
    main()
