"""The ``maskmesh`` command; extra ``cli``."""

import sys


def main() -> None:
    """Run the command, or name the packages that it requires."""
    try:
        from maskmesh.cli.main import main as run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "maskmesh":
            raise
        sys.exit(f"the maskmesh command needs the package {error.name}: pip install 'maskmesh[cli]'")
    run()
