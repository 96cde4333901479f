#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation and entry point of the module fastapi_release."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fastapi_release
short_description: Build an immutable release of a FastAPI application
version_added: 0.1.0
description:
  - Builds a directory C(releases_dir/ID) with the application's source (C(app/)),
    its virtual environment (C(venv/)) and a marker (C(release.json)) that is
    written last. A directory without the marker is not a release; it is removed
    and built anew.
  - ID is derived from the content of the source or the pinned package, the
    requirements, O(server_packages), O(extra_pip_args), the wheels in
    O(wheel_dir), and the path and full version of O(python). The same input gives
    the same ID, and then nothing is changed and nothing is sent to the target.
  - O(index_url) and O(ca_bundle) do not enter the ID. They say where packages come
    from, not which.
  - Old releases are removed after a build only, so a run that builds nothing
    changes nothing.
  - A failed build leaves no release behind and touches no other.
options:
  name:
    description: Name of the service.
    type: str
    required: true
  state:
    description:
      - Whether the release is to exist, or O(releases_dir) with all releases is to
        be gone.
      - V(absent) is refused while O(protected) names a release, and when
        O(releases_dir) holds anything but releases.
    type: str
    choices: [present, absent]
    default: present
  releases_dir:
    description:
      - Absolute path on the target of the directory that holds the releases.
      - C(/srv/NAME/releases) when not given.
    type: path
  source_path:
    description:
      - Directory on the controller that holds the application.
      - A relative path is relative to the directory of the playbook.
      - Symlinks are kept; one that leads out of the directory is refused. Empty
        directories are left out.
      - Exactly one of O(source_path) and O(package) is required for
        O(state=present).
    type: str
  source_exclude:
    description:
      - Shell patterns of files and directories in O(source_path) to leave out.
      - A pattern is compared to the path relative to O(source_path) and to the last
        component of it. A V(*) also matches C(/).
    type: list
    elements: str
    default:
      - .git
      - .venv
      - venv
      - __pycache__
      - "*.pyc"
      - .mypy_cache
      - .pytest_cache
      - .ruff_cache
      - node_modules
      - .tox
  package:
    description:
      - A package to install instead of a source directory. Either a pinned
        requirement such as C(name[extra]==1.2.3), or the absolute path of a wheel on
        the target, or the URL of a wheel (over plain http with C(#sha256=DIGEST)).
      - Anything that is not pinned is refused.
    type: str
  requirements:
    description:
      - Requirements file to install, relative to O(source_path). Empty for none.
      - When it has C(--hash) options, pip is run with C(--require-hashes).
    type: str
    default: ''
  install_project:
    description:
      - Whether the source itself is installed as a package. It is installed without
        its dependencies when O(requirements) is given.
      - V(auto) installs it when it has a C(setup.py), or a C(pyproject.toml) with a
        C([build-system]) table. One with a C([project]) table alone is installed only
        when O(requirements) is empty. C(package-mode = false) (Poetry) and
        C(package = false) (uv) are obeyed.
    type: str
    choices: [auto, always, never]
    default: auto
  server_packages:
    description:
      - Requirement lines to install beside the application, such as the server that
        runs it. They may carry C(--hash).
      - They are installed second, held to the versions that the application chose. A
        conflict fails the task.
    type: list
    elements: str
    default: []
  wheel_dir:
    description:
      - Directory on the controller with wheels. They are sent to the target, and pip
        uses nothing else (C(--no-index --find-links)), so O(index_url) has no effect.
      - A source that is installed as a package needs its build backend there too.
    type: str
  index_url:
    description:
      - URL of the package index. It may hold credentials; pip gets it through its
        environment.
    type: str
  extra_pip_args:
    description:
      - Further arguments for each C(pip install).
      - They are visible in the process list and in Ansible's output. Give
        credentials in O(index_url).
    type: list
    elements: str
    default: []
  ca_bundle:
    description: Path on the target of the CA certificates that pip trusts.
    type: path
  python:
    description:
      - Absolute path on the target of the Python to make the virtual environment
        with, 3.9 or newer. On Debian it needs the package C(python3-venv).
    type: path
    default: /usr/bin/python3
  keep:
    description:
      - How many old releases to keep besides this one and those in O(protected).
    type: int
    default: 3
  protected:
    description: IDs of releases in use by slots. They are never removed.
    type: list
    elements: str
    default: []
  content_digest:
    description: Set by the action plugin. Do not use it in a task.
    type: str
  archive:
    description: Set by the action plugin. Do not use it in a task.
    type: path
  wheels_digest:
    description: Set by the action plugin. Do not use it in a task.
    type: str
  wheels_archive:
    description: Set by the action plugin. Do not use it in a task.
    type: path
attributes:
  action:
    description: Has an action plugin that runs on the controller.
    support: full
  check_mode:
    description: Can run in check mode and tell what would change.
    support: full
    details:
      - Where O(python), or the wheel that O(package) names, is not on the target yet,
        a change is assumed and RV(release_id) is empty.
      - Nothing is built, so a requirement that cannot be installed is not noticed.
  diff_mode:
    description: Returns the releases before and after.
    support: full
  idempotent:
    description: A second run with the same input changes nothing.
    support: full
  platform:
    description: Platforms it runs on.
    support: full
    platforms: posix
author:
  - keepalive.fastapi contributors (@keepalive)
"""

EXAMPLES = r"""
- name: Build a release from a directory on the controller
  keepalive.fastapi.fastapi_release:
    name: shop
    source_path: ../shop
    requirements: requirements.txt
    server_packages:
      - gunicorn==27.0.1
      - uvicorn-worker==0.4.0
    protected: "{{ releases_in_use }}"
  register: release

- name: Build a release of a package for a host without internet
  keepalive.fastapi.fastapi_release:
    name: shop
    package: shop[postgres]==1.4.2
    wheel_dir: wheels/

- name: Remove all releases
  keepalive.fastapi.fastapi_release:
    name: shop
    state: absent
"""

RETURN = r"""
release_id:
  description:
    - ID of the release. Empty for O(state=absent), and in check mode when it cannot be
      known yet.
  type: str
  returned: success
  sample: 3f1c9a0be27d4856
release_path:
  description: Path of the release, empty when RV(release_id) is.
  type: str
  returned: success
  sample: /srv/shop/releases/3f1c9a0be27d4856
venv_python:
  description: Path of the release's interpreter, empty when RV(release_id) is.
  type: str
  returned: success
  sample: /srv/shop/releases/3f1c9a0be27d4856/venv/bin/python
sequence:
  description: Number of the release among the service's; the newest is highest.
  type: int
  returned: when the release exists
  sample: 7
built:
  description: Whether the release was built by this run.
  type: bool
  returned: success
seconds_to_build:
  description: Time the build took in seconds, 0 when nothing was built.
  type: float
  returned: success
removed:
  description: IDs of the releases that were removed, or would be in check mode.
  type: list
  elements: str
  returned: success
packages:
  description: The installed packages as C(name==version).
  type: list
  elements: str
  returned: when RV(built) is true
  sample: ["fastapi==0.140.0", "gunicorn==27.0.1"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release import (
    ensure_absent,
    ensure_present,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release_request import (
    ARGUMENTS,
    request_from,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    module_runner,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        mutually_exclusive=[("source_path", "package")],
        required_if=[("state", "present", ("source_path", "package"), True)],
        supports_check_mode=True,
    )
    try:
        request = request_from(module.params)
        if module.params["state"] == "absent":
            result = ensure_absent(request, check_mode=module.check_mode)
        else:
            run = module_runner(module.run_command)
            result = ensure_present(request, run, check_mode=module.check_mode)
    except KeepaliveError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
