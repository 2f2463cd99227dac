"""Settings of the tracker service."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from maskmesh.config import SESSION_URL, ModelSettings


class TrackerSettings(ModelSettings):
    """Tracking model and sessions."""

    model_config = SettingsConfigDict(env_prefix="MASKMESH_TRACKER_")

    port: int = Field(50052, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one."""
    max_interactive_queue: int = Field(8, ge=1)
    """Largest number of clicks and single images that wait for the device; more than an encoder's, because
    encoders hand over what they have computed at once."""
    max_sessions: int = Field(64, ge=1)
    """Largest number of sessions."""
    max_objects: int = Field(64, ge=1)
    """Largest number of objects in a session."""
    max_prompted_frames: int = Field(256, ge=1)
    """Largest number of frames on which one object may be prompted: each counts on every frame."""
    session_ttl_seconds: float = Field(600.0, gt=0)
    """How long a session may stay unused, at most and by default."""
    data_dir: Path | None = None
    """Folder for what sessions keep of frames tracked long ago, by default the system's temporary folder."""
    session_disk_bytes: int = Field(8 * 2**30, ge=2**20)
    """Budget of that in one session."""
    recent_frames: int = Field(16, ge=16)
    """Tracked frames of each object that are held in memory; older ones are on disk."""
    max_history: int = Field(10_000, ge=1)
    """Largest number of entries in the history of one session."""
    advertise: str = ""
    """Target by which gateways reach this replica, by default host and port."""
    session_url: str = Field("", validation_alias=SESSION_URL)
    """Store of the Redis protocol in which sessions are kept, for other trackers to take over:
    ``redis://[user:password@]host:port/database``; empty means that they live here alone."""
    session_store_bytes: int = Field(256 * 2**20, ge=0)
    """Budget of what the store keeps of one session's frames that were tracked long ago."""
    embedding_bytes: int = Field(256 * 2**20, ge=2**20)
    """Budget of fetched embeddings in bytes."""
