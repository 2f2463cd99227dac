"""Settings of the gateway."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from maskmesh.config import SESSION_URL, ServerSettings, pixel_limit
from maskmesh.media.pictures import PixelLimit

DECODER_BYTES = 384 * 2**20


class GatewaySettings(ServerSettings):
    """Addresses of the other services, and limits of sessions."""

    model_config = SettingsConfigDict(env_prefix="MASKMESH_GATEWAY_")

    port: int = Field(50050, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one."""
    encoder: str = "127.0.0.1:50051"
    """gRPC target of the encoder service."""
    overflow_encoder: str = ""
    """gRPC target of slower encoders with the same model and type, for images that they would finish before
    those of ``encoder``; empty for none."""
    point_encoder: str = ""
    """gRPC target of the encoders for points, to scale them apart; empty means those of ``encoder``."""
    tracker: str = "127.0.0.1:50052"
    """Addresses of the trackers: one address, a comma-separated list, or a DNS name that resolves to all of
    them (``dns:///trackers:50052``)."""
    session_url: str = Field("", validation_alias=SESSION_URL)
    """Redis-compatible session store, the same as that of the trackers:
    ``redis://[user:password@]host:port/database``; if empty, a session is lost if its tracker or gateway
    fails."""
    keys: Path | None = None
    """File of API keys (TOML, digests only); without it, calls are not authenticated."""
    window: int = Field(4, ge=2, le=64)
    """Maximum number of frames of a propagation that are in progress, from reading to delivery."""
    live_window: int = Field(3, ge=2, le=8)
    """Maximum number of frames of a live stream that are in progress."""
    data_dir: Path | None = None
    """Folder for the frames of sessions; the system's temporary folder by default."""
    session_ttl_seconds: float = Field(600.0, gt=0)
    """Maximum and default time to live of an unused session, in seconds."""
    max_sessions: int = Field(64, ge=1)
    """Maximum number of sessions."""
    max_session_bytes: int = Field(4 * 2**30, ge=2**20)
    """Maximum total size of the uploaded frames of one session in bytes."""
    max_frames: int = Field(200_000, ge=1)
    """Maximum number of frames of one session."""
    max_pixels: int = Field(64 * 2**20, ge=1)
    """Maximum number of pixels of an image or a frame of a video."""
    decoder_bytes: int = Field(DECODER_BYTES, ge=2**20)
    """Budget in bytes of the memory of open video decoders; beyond it, the decoders of sessions that were not
    used for longest are closed, and opened again when they are needed."""
    erase_threads: int = Field(2, ge=1, le=64)
    """Number of threads that erase objects, each of one core."""
    erase_model: Path | None = None
    """Inpainting model (ONNX) for erased pixels that no frame has shown; needs the extra ``erase-model``."""
    max_erasers: int = Field(8, ge=1)
    """Maximum number of sessions whose objects are erased at once; each one keeps about 9 frames in memory,
    and with a look-ahead three for each of its frames."""
    trace_url: str = ""
    """Where people look up a trace, with ``{trace_id}`` in place of its id, for example
    ``http://jaeger:16686/trace/{trace_id}``; clients such as ``maskmesh web`` link to it."""
    pin_seconds: float = Field(60.0, gt=0)
    """Time to live of the pin on the embedding of a frame in progress, in seconds."""

    @property
    def pixel_limit(self) -> PixelLimit:
        """The limit for every way in: uncompressed pixels must fit into one message to the encoder."""
        return pixel_limit(self.max_pixels, self.max_message_bytes, "MASKMESH_GATEWAY_")
