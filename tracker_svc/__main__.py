"""Run the tracker service: ``maskmesh-tracker``, or ``python -m tracker_svc``."""

from maskmesh.config import load
from maskmesh.rpc.server import run
from tracker_svc.config import TrackerSettings
from tracker_svc.service import make_service


def main() -> None:
    """Read the settings and serve until SIGTERM."""
    settings = load(TrackerSettings)
    run(make_service(settings), settings)


if __name__ == "__main__":
    main()
