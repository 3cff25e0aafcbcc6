"""A worker process: performs what was applied, until it is told to stop.

``python -m examples.payday.worker`` with the addresses in the environment, see `app.Places`.
"""

from __future__ import annotations

import argparse
import os

from examples.payday import children
from examples.payday.app import build
from examples.payday.places import Places

SETTINGS = {"max_workers": 2, "worker_interval": 0.2, "lease": 3.0, "log_json": True}


def main() -> None:
    parser = argparse.ArgumentParser(description="Performs the payday's calls.")
    parser.add_argument("--until-eof", action="store_true", help="end when stdin closes")
    options = parser.parse_args()
    sandbox = build(Places.from_environment(), **SETTINGS).sandbox
    sandbox.worker.start()
    children.ready(os.getpid())
    children.wait_for_the_end(until_eof=options.until_eof)
    sandbox.cleanup()


if __name__ == "__main__":
    main()
