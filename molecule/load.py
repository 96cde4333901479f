"""Keep connections to this host's nginx busy and account for every request.

Runs on the host under test with nothing but its Python. One JSON object of
options as the argument; one JSON object of counts on standard output.
"""

import http.client
import json
import os
import sys
import threading
import time
from typing import Any

ITEM = json.dumps({"name": "a", "description": "b", "price": 1.5, "tax": 0.1})


def client(
    options: dict[str, Any],
    counts: dict[str, int],
    lock: threading.Lock,
    deadline: float,
) -> None:
    """Send requests one after another on one connection until told to stop."""
    connection = None
    for _number in range(options.get("requests", 1_000_000)):
        if time.monotonic() > deadline or os.path.exists(options.get("stop_file", "")):
            break
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=30)
        try:
            connection.request(
                options.get("method", "POST"),
                options.get("path", "/async/items/"),
                ITEM,
                {"Host": options["host"], "Content-Type": "application/json"},
            )
            response = connection.getresponse()
            response.read()
            outcome = str(response.status)
        except (OSError, http.client.HTTPException) as error:
            outcome = type(error).__name__
            connection.close()
            connection = None
        with lock:
            counts[outcome] = counts.get(outcome, 0) + 1


def main() -> None:
    options = json.loads(sys.argv[1])
    counts: dict[str, int] = {}
    lock = threading.Lock()
    deadline = time.monotonic() + options.get("seconds", 120)
    threads = [
        threading.Thread(target=client, args=(options, counts, lock, deadline))
        for _number in range(options.get("connections", 8))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(counts))


main()
