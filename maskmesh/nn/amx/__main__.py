"""``python -m maskmesh.nn.amx`` compiles the attention kernel next to its source."""

import sys

from maskmesh.nn.amx.build import INSTALLED, BuildError, build


def main() -> int:
    """Compile the kernel.  A failure is not an error, because services then use torch's attention."""
    try:
        build(INSTALLED)
    except BuildError as error:
        print(f"the attention kernel was not built: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
