# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put pip into the virtual environments of ansible-test's sanity tests.

ansible-test runs ~/.ansible/test/cache/get_pip_VERSION.py in each of them and
downloads that file from a server of its own if it is missing. `make lint` puts
this one there, which takes the pip that comes with Python.
"""

from __future__ import annotations

import ensurepip

ensurepip.bootstrap(default_pip=True)
