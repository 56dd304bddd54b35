"""`python -m quickstart run | up | down`: what `make run`, `make up` and `make down` call."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from rich.console import Console

from opportunity_sync.errors import OpportunitySyncError
from opportunity_sync.settings import load_settings
from quickstart.errors import QuickStartError
from quickstart.run import run
from quickstart.stack import down, up
from quickstart.stand_in import SAMPLE_DATA


def main() -> int:
    """Run one command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m quickstart", description=__doc__)
    parser.add_argument("command", choices=("run", "up", "down"))
    parser.add_argument("--seed", default="", help="folder of rows for the stand-in (default: sample_data)")
    parser.add_argument("--port", type=int, default=8080, help="of the UI; 0, or a port in use: any free one")
    arguments = parser.parse_args()
    seed = Path(arguments.seed).resolve() if arguments.seed else SAMPLE_DATA
    console = Console() if sys.stdout.isatty() else Console(width=120)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        settings = load_settings()
        if arguments.command == "run":
            return run(settings, seed, console)
        if arguments.command == "up":
            return up(settings, seed, console, port=arguments.port)
        return down(settings, console)
    except (QuickStartError, OpportunitySyncError) as error:
        console.print(f"[red]{type(error).__name__}[/]: ", end="")
        console.print(str(error), markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted; everything that was started has been ended")
        return 130


if __name__ == "__main__":
    sys.exit(main())
