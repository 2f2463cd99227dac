"""``python -m maskmesh.cli``."""

from maskmesh.cli import main

main()
