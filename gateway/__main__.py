"""Run the gateway: ``maskmesh-gateway``, or ``python -m gateway``."""

from gateway.config import GatewaySettings
from gateway.service import make_service
from maskmesh.config import load
from maskmesh.rpc.server import run


def main() -> None:
    """Read the settings and serve until SIGTERM."""
    settings = load(GatewaySettings)
    run(make_service(settings), settings)


if __name__ == "__main__":
    main()
