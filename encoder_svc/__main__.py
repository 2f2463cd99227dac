"""Run the encoder service: ``maskmesh-encoder``, or ``python -m encoder_svc``."""

from encoder_svc.config import EncoderSettings
from encoder_svc.service import make_service
from maskmesh.config import load
from maskmesh.rpc.server import run


def main() -> None:
    """Read the settings and serve until SIGTERM."""
    settings = load(EncoderSettings)
    run(make_service(settings), settings)


if __name__ == "__main__":
    main()
