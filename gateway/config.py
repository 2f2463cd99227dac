"""Settings of the gateway."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from maskmesh.config import SESSION_URL, ServerSettings


class GatewaySettings(ServerSettings):
    """Where the other services are, and what sessions may hold."""

    model_config = SettingsConfigDict(env_prefix="MASKMESH_GATEWAY_")

    port: int = Field(50050, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one."""
    encoder: str = "127.0.0.1:50051"
    """gRPC target of the encoder service."""
    tracker: str = "127.0.0.1:50052"
    """Trackers: an address, several with commas between them, or a name with an address for each
    (``dns:///trackers:50052``)."""
    session_url: str = Field("", validation_alias=SESSION_URL)
    """Store of the Redis protocol in which sessions are kept, the same as that of the trackers:
    ``redis://[user:password@]host:port/database``; empty means that a session ends with
    its tracker or gateway."""
    keys: Path | None = None
    """File of API keys (TOML, digests only); without one everybody may call."""
    window: int = Field(4, ge=2, le=64)
    """Frames of a propagation that are under way at once, from reading to delivery."""
    live_window: int = Field(3, ge=2, le=8)
    """Frames of a live stream that are under way at once."""
    data_dir: Path | None = None
    """Folder for the frames of sessions, by default the system's temporary folder."""
    session_ttl_seconds: float = Field(600.0, gt=0)
    """How long a session may stay unused, at most and by default."""
    max_sessions: int = Field(64, ge=1)
    """Largest number of sessions."""
    max_session_bytes: int = Field(4 * 2**30, ge=2**20)
    """Largest size of the frames of one session, as they came."""
    max_frames: int = Field(200_000, ge=1)
    """Largest number of frames of one session."""
    max_pixels: int = Field(64 * 2**20, ge=1)
    """Largest frame in pixels."""
    pin_seconds: float = Field(60.0, gt=0)
    """How long an embedding of a frame under way is kept in the encoder at most."""
