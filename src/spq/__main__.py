"""The program `spq`."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C also counts while the commands are being loaded."""
    try:
        from spq.cli.main import main as run
    except KeyboardInterrupt:
        print("spq: stopped; the command had not begun, run the same command again", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
