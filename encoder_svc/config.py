"""Settings of the encoder service."""

from pydantic import AliasChoices, Field
from pydantic_settings import SettingsConfigDict

from maskmesh.config import ModelSettings, pixel_limit
from maskmesh.media.pictures import PixelLimit


class EncoderSettings(ModelSettings):
    """Settings of the image encoder and of the embedding cache."""

    model_config = SettingsConfigDict(env_prefix="MASKMESH_ENCODER_")

    port: int = Field(50051, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one."""
    advertise: str = ""
    """Address at which trackers reach this replica; host and port by default."""
    cache_bytes: int = Field(2 * 2**30, ge=2**20)
    """Budget of the embedding cache in bytes."""
    cache_wait_seconds: float = Field(10.0, ge=0)
    """How long a request waits for space in the cache if all entries are pinned, in seconds."""
    cache_url: str = Field("", validation_alias=AliasChoices("cache_url", "MASKMESH_CACHE_URL"))
    """Redis-compatible server in which encoder replicas share embeddings:
    ``redis://[user:password@]host:port/database``; if empty, each replica has only its own cache."""
    shared_cache_bytes: int = Field(4 * 2**30, ge=2**20)
    """Budget of the shared cache in bytes; must be equal in all replicas."""
    shared_cache_seconds: float = Field(3600.0, gt=0)
    """Time to live of an embedding in the shared cache, in seconds."""
    max_pixels: int = Field(64 * 2**20, ge=1)
    """Maximum number of pixels of an image."""
    decode_threads: int = Field(2, ge=1)
    """Number of threads that decode images."""

    @property
    def pixel_limit(self) -> PixelLimit:
        """The limit for every way in: uncompressed pixels must fit into one message."""
        return pixel_limit(self.max_pixels, self.max_message_bytes, "MASKMESH_ENCODER_")
