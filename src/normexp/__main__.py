"""The command ``normexp``, and ``python -m normexp``."""

import sys


def main() -> None:
    """Run the command line; without the extra it needs, say in one sentence how to get it."""
    try:
        from normexp.cli.app import run  # noqa: PLC0415  (the extra may be missing)
    except KeyboardInterrupt:
        sys.stderr.write("normexp: interrupted.\n")
        raise SystemExit(2) from None
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"normexp: the command line needs the package {error.name!r}; install it with: pip install 'normexp[cli]'\n"
        )
        raise SystemExit(2) from None
    raise SystemExit(run())


if __name__ == "__main__":
    main()
