"""Settings of the encoder service."""

from pydantic import AliasChoices, Field
from pydantic_settings import SettingsConfigDict

from maskmesh.config import ModelSettings


class EncoderSettings(ModelSettings):
    """Image encoder and embedding cache."""

    model_config = SettingsConfigDict(env_prefix="MASKMESH_ENCODER_")

    port: int = Field(50051, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one."""
    advertise: str = ""
    """Target by which trackers reach this replica, by default host and port."""
    cache_bytes: int = Field(2 * 2**30, ge=2**20)
    """Budget of the embedding cache in bytes."""
    cache_wait_seconds: float = Field(10.0, ge=0)
    """How long an encode waits for room where everything is pinned."""
    cache_url: str = Field("", validation_alias=AliasChoices("cache_url", "MASKMESH_CACHE_URL"))
    """Store of the Redis protocol in which replicas share embeddings:
    ``redis://[user:password@]host:port/database``; empty means that each has its own only."""
    shared_cache_bytes: int = Field(4 * 2**30, ge=2**20)
    """Budget of that, the same in all replicas."""
    shared_cache_seconds: float = Field(3600.0, gt=0)
    """How long an embedding is kept there."""
    max_pixels: int = Field(64 * 2**20, ge=1)
    """Largest image in pixels."""
    decode_threads: int = Field(2, ge=1)
    """Threads that decode images."""
