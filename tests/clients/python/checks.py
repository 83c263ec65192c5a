"""What the programs of both Python clients share: running named checks and waiting for conditions."""

import os
import sys
import time
import traceback

LIMIT_S = 60
# What is tried: so many nodes, of which one is restarted now and then, or none is.
NODES = int(os.environ.get("CHECK_NODES") or 1)
RESTARTS = bool(os.environ.get("CHECK_RESTARTS"))
COPIES = min(NODES, 3)


def run(checks, wanted):
    """Runs the checks in order, prints one line for each, and ends the process."""
    failed = 0
    for check in checks:
        name = check.__name__
        if wanted and name not in wanted:
            continue
        started = time.monotonic()
        try:
            check()
            print(f"ok {name} {time.monotonic() - started:.1f}s", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAILED {name}: {error!r}", flush=True)
            traceback.print_exc()
    sys.exit(1 if failed else 0)


def until(what, condition):
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within a minute: {what}")
        time.sleep(0.01)


def equal(expected, actual, what):
    if expected != actual:
        raise AssertionError(f"{what}: expected {expected!r}, got {actual!r}")


def text(number):
    return f"record {number} ".encode() + b"abcdefghij" * (number % 20)
