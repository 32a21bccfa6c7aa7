"""`python -m fleet_pipeline`, and the command `fleet`."""

import sys


def main() -> None:
    """Run the command.

    Ctrl-C while its modules are still being imported, which takes a second, is no traceback either.
    """
    try:
        from fleet_pipeline.cli.main import main as fleet  # noqa: PLC0415 (inside the `try`)
    except KeyboardInterrupt:
        sys.exit("interrupted before anything was done")
    fleet()


if __name__ == "__main__":
    main()
