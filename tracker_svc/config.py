"""Settings of the tracker service."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from maskmesh.config import SESSION_URL, ModelSettings


class TrackerSettings(ModelSettings):
    """Settings of the tracking model and of sessions."""

    model_config = SettingsConfigDict(env_prefix="MASKMESH_TRACKER_")

    vocabulary: Path | None = None
    """Vocabulary of the text encoder of SAM 3: ``tokenizer.json``, or CLIP's list of merges (.txt or
    .txt.gz); by default the ``tokenizer.json`` beside the checkpoint."""
    port: int = Field(50052, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one."""
    max_interactive_queue: int = Field(8, ge=1)
    """Maximum number of interactive requests in the queue of the device.  Larger than an encoder's, because
    the requests of a whole encoder batch arrive at once."""
    max_sessions: int = Field(64, ge=1)
    """Maximum number of sessions."""
    max_objects: int = Field(64, ge=1)
    """Maximum number of objects in a session."""
    max_points: int = Field(1024, ge=1)
    """Maximum number of points of all TrackPoints calls with TAPIR; each one takes up to 1 MiB."""
    motion_checkpoint: Path | None = None
    """Weights of the motion tokenizer (safetensors or torch); without them, motion has no codes."""
    max_prompted_frames: int = Field(256, ge=1)
    """Maximum number of prompted frames of one object; each one slows down the tracking of all frames."""
    session_ttl_seconds: float = Field(600.0, gt=0)
    """Maximum and default time to live of an unused session, in seconds."""
    data_dir: Path | None = None
    """Folder for the archives of sessions; the system's temporary folder by default."""
    session_disk_bytes: int = Field(8 * 2**30, ge=2**20)
    """Budget of the archive of one session in bytes."""
    recent_frames: int = Field(16, ge=16)
    """Number of tracked frames of each object in memory; older frames are archived on disk."""
    offload_seconds: float = Field(0.0, ge=0)
    """Seconds without a call after which the states of a session move from memory to its archive, from
    which the next call reads what it needs; 0 never moves them."""
    memory_frames: int = Field(6, ge=1, le=6)
    """Number of preceding frames whose memories a frame attends to, besides the prompted ones.  Fewer are
    faster, but differ from the published model; must be equal in all trackers."""
    max_history: int = Field(10_000, ge=1)
    """Maximum number of entries in the history of one session."""
    advertise: str = ""
    """Address at which gateways reach this replica; host and port by default."""
    session_url: str = Field("", validation_alias=SESSION_URL)
    """Redis-compatible session store to which sessions are replicated, so that other trackers can take them
    over: ``redis://[user:password@]host:port/database``; if empty, sessions are lost if this tracker
    fails."""
    session_store_bytes: int = Field(256 * 2**20, ge=0)
    """Budget of the archived states of one session in the session store, in bytes."""
    embedding_bytes: int = Field(256 * 2**20, ge=2**20)
    """Budget of the cache of fetched embeddings in bytes."""
