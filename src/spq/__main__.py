"""The program `spq`."""

import os
import signal
import sys


def main() -> None:
    """Run the command line. Ctrl-C also counts while the commands are being loaded, and before one begins."""
    try:
        from spq.cli.main import main as run

        run()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("spq: stopped; the command had not begun, run the same command again", file=sys.stderr, flush=True)
        os._exit(130)  # else Python may end by the signal itself


if __name__ == "__main__":
    main()
