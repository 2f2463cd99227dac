"""Settings of the tracker service."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from maskmesh.config import ModelSettings


class TrackerSettings(ModelSettings):
    """Tracking model and sessions."""

    model_config = SettingsConfigDict(env_prefix="MASKMESH_TRACKER_")

    port: int = Field(50052, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one."""
    max_sessions: int = Field(64, ge=1)
    """Largest number of sessions."""
    max_objects: int = Field(64, ge=1)
    """Largest number of objects in a session."""
    max_prompted_frames: int = Field(256, ge=1)
    """Largest number of frames on which one object may be prompted: each counts on every frame."""
    session_ttl_seconds: float = Field(600.0, gt=0)
    """How long a session may stay unused, at most and by default."""
    session_memory_bytes: int = Field(256 * 2**20, ge=2**20)
    """Budget of the memories of tracked frames in one session; the last 16 frames are always held."""
    embedding_bytes: int = Field(256 * 2**20, ge=2**20)
    """Budget of fetched embeddings in bytes."""
    max_queue: int = Field(256, ge=1)
    """Largest number of steps that wait for the device."""
