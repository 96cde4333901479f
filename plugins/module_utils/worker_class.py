# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Gunicorn worker classes can serve FastAPI over kept-alive connections.

What is said here of Gunicorn was read in its source, 27.0.1, of Uvicorn in 0.54.0 and
uvicorn-worker 0.4.0.
"""

from __future__ import annotations

import re
from typing import Optional

from ansible_collections.keepalive.fastapi.plugins.module_utils.chain_links import (
    VARIABLE_PREFIX,
    ChainError,
)

WORKER_CLASS = "worker_class"
_DOTTED_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+")
_WSGI_WORKERS = frozenset(
    ("gthread", "gevent", "gevent_wsgi", "gevent_pywsgi", "eventlet", "tornado")
)
_WORKER_ADVICE = "use uvicorn_worker.UvicornWorker or asgi"


def is_uvicorn(worker_class: str) -> bool:
    return worker_class.startswith(("uvicorn_worker.", "uvicorn.workers."))


def is_native_asgi(worker_class: str) -> bool:
    return worker_class in ("asgi", "gunicorn.workers.gasgi.ASGIWorker")


def _is_wsgi(worker_class: str) -> bool:
    if worker_class.startswith("gunicorn.workers."):
        return not is_native_asgi(worker_class)
    return worker_class in _WSGI_WORKERS


def lingers(worker_class: str) -> bool:
    """Tell whether a stopping worker still serves its idle connections.

    Uvicorn's server closes them at once, so how long it would be allowed to
    stay is of no use to nginx. Gunicorn's own worker lingers; a class unknown
    here is taken to, which asks more of the chain and never less.
    """
    return not is_uvicorn(worker_class)


def check_worker_class(worker_class: object) -> str:
    """Return the Gunicorn worker class if it can serve FastAPI kept alive.

    Accepted are ``asgi`` (Gunicorn's own, also by its full path) and the
    dotted path of any class outside Gunicorn. Raises ChainError.
    """
    variable = VARIABLE_PREFIX + WORKER_CLASS
    if not isinstance(worker_class, str):
        raise ChainError(f"{variable} is {worker_class!r}, no text; {_WORKER_ADVICE}.")
    reason = refusal(worker_class)
    if reason:
        raise ChainError(f"{variable} is {worker_class!r}, {reason}.")
    return str(worker_class)


def refusal(worker_class: str) -> Optional[str]:
    """Say why a worker class is no good here, and what is; None if it is good."""
    if worker_class == "sync" or worker_class.startswith("gunicorn.workers.sync."):
        return (
            "which ignores keepalive: it closes the connection after every"
            f" response; {_WORKER_ADVICE}"
        )
    if _is_wsgi(worker_class):
        return f"which serves WSGI applications, and FastAPI is ASGI; {_WORKER_ADVICE}"
    if worker_class.startswith("uvicorn.workers."):
        successor = worker_class.replace("uvicorn.workers.", "uvicorn_worker.", 1)
        return (
            f"deprecated since Uvicorn 0.30; use {successor} of the package"
            " uvicorn-worker"
        )
    if worker_class != "asgi" and not _DOTTED_PATH.fullmatch(worker_class):
        return f"neither asgi nor the dotted path of a Python class; {_WORKER_ADVICE}"
    return None
