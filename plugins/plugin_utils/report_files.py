# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports as files: pages made from a template, and each file written as a whole."""

from __future__ import annotations

import os
import tempfile
from typing import Mapping

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def page_environment() -> Environment:
    """Return where pages are made: from a template beside this file, escaped."""
    return Environment(
        loader=FileSystemLoader(os.path.dirname(__file__)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_whole(files: Mapping[str, str]) -> None:
    """Put each text in place at its path whole, or leave the old one.

    Folders are made. Raises OSError.
    """
    for path, content in files.items():
        folder = os.path.dirname(path)
        os.makedirs(folder, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=folder, prefix=".report-", delete=False
        ) as file:
            file.write(content)
        try:
            os.chmod(file.name, 0o666 & ~_umask())
            os.replace(file.name, path)
        except OSError:
            os.unlink(file.name)
            raise


def _umask() -> int:
    """Return the user's umask; it can be read by setting it only."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
