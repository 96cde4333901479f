# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack the host's program into one file that the host's Python runs (zipapp)."""

from __future__ import annotations

import io
import sys
import zipfile
from typing import Any, Dict, Iterator, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils import program

_PREFIX = program.__name__.rpartition(".")[0] + "."
# The same texts give the same file, whenever they are packed.
_DATE = (1980, 1, 1, 0, 0, 0)


def packed(name: str, releases_dir: str, interpreter: str) -> bytes:
    """Return the program of one service.

    It holds the very code that packs it: whatever of this collection's
    ``module_utils`` the caller has loaded, the program's own needs among it.
    """
    texts = dict(_sources())
    texts["__main__.py"] = (
        "import sys\nfrom {0} import main\nsys.exit(main({1!r}, {2!r}))\n".format(
            program.__name__, name, releases_dir
        )
    )
    buffer = io.BytesIO()
    buffer.write("#!{0} -I\n".format(interpreter).encode())
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in sorted(texts.items()):
            entry = zipfile.ZipInfo(path, date_time=_DATE)
            archive.writestr(entry, text, compress_type=zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _sources() -> Iterator[Tuple[str, str]]:
    packages: Dict[str, str] = {}
    for name in sorted(each for each in sys.modules if each.startswith(_PREFIX)):
        path = name.replace(".", "/")
        loader: Any = getattr(sys.modules[name].__spec__, "loader", None)
        yield path + ".py", loader.get_source(name)
        while "/" in path:
            path = path.rpartition("/")[0]
            packages[path + "/__init__.py"] = ""
    yield from packages.items()
