"""Run a service's program on this host, and kill it as it is about to take a step.

Runs as root on the host under test with nothing but its Python. One JSON object of
options as the argument: program, words, kill_at (0: let it run) and clock_shift_s,
by which this process's wall clock is wrong. Not killed, it prints the steps that it
took as JSON.
"""

import json
import os
import runpy
import signal
import sys
import time
from typing import Any

# What changes the host, by the events that Python tells of it (sys.addaudithook). What
# is written has its place by a rename.
CHANGES = {"os.chown", "os.remove", "os.rename", "os.rmdir", "os.symlink"}
READS = {"show", "is-active"}


def step_of(event: str, given: Any) -> str:
    """Return what an event is about to change; empty if nothing."""
    if event == "subprocess.Popen":
        words = [word for word in given[1] if not word.startswith("-")]
        if os.path.basename(words[0]) == "nginx":
            return " ".join(words)
        reads = words[0] != "systemctl" or words[1] in READS
        return "" if reads else " ".join(words)
    if event in CHANGES:
        return f"{event} {given[0]}" if isinstance(given[0], str) else event
    return ""


def main() -> None:
    options = json.loads(sys.argv[1])
    steps: list[str] = []

    def look(event: str, given: Any) -> None:
        step = step_of(event, given)
        if step:
            steps.append(step)
            if len(steps) == options.get("kill_at", 0):
                os.kill(os.getpid(), signal.SIGKILL)

    right, shift_s = time.time, options.get("clock_shift_s", 0)
    time.time = lambda: right() + shift_s
    sys.argv = [options["program"], *options["words"]]
    sys.addaudithook(look)
    try:
        runpy.run_path(options["program"], run_name="__main__")
    except SystemExit as ended:
        if ended.code not in (None, 0):
            raise
    print(json.dumps(steps))


main()
