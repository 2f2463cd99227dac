"""Server limits, and for each limit a call that exceeds it in a mesh with low limits."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from maskmesh import AsyncClient, FrameOutOfMemory, MaskmeshError, ResourceExhausted, VideoSession
from tests.e2e.bad_inputs import encoded, plain, video

# The low limits by service and setting.
LOW: Mapping[str, Mapping[str, int]] = {
    "gateway": {"max-sessions": 2, "max-frames": 60, "max-session-bytes": 2**20},
    "tracker": {
        "max-objects": 2, "max-prompted-frames": 2, "max-history": 8, "session-disk-bytes": 2**20,
    },
}  # fmt: skip
CLICK = [(5.0, 5.0)]

Beyond = Callable[[AsyncClient, VideoSession], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit, and a call that exceeds it in a session with 60 frames of 64 x 48 pixels."""

    setting: str
    rpc: str
    beyond: Beyond
    resource: str
    error: type[MaskmeshError] = ResourceExhausted


async def _objects(_client: AsyncClient, session: VideoSession) -> None:
    for obj_id in range(3):
        await session.add_prompt(0, obj_id, points=CLICK)


async def _prompted_frames(_client: AsyncClient, session: VideoSession) -> None:
    for index in range(3):
        await session.add_prompt(index, 1, points=CLICK)


async def _history(_client: AsyncClient, session: VideoSession) -> None:
    for _ in range(9):
        await session.add_prompt(0, 1, points=CLICK)


async def _history_by_tracking(_client: AsyncClient, session: VideoSession) -> None:
    for _ in range(8):
        await session.add_prompt(0, 1, points=CLICK)
    await _drain(session.propagate(max_frames=1))


async def _tracked_long_ago(_client: AsyncClient, session: VideoSession) -> None:
    await session.add_prompt(0, 1, points=CLICK)
    await _drain(session.propagate())
    await session.add_prompt(5, 1, points=CLICK)


async def _track_from_long_ago(_client: AsyncClient, session: VideoSession) -> None:
    await session.add_prompt(0, 1, points=CLICK)
    await _drain(session.propagate())
    await _drain(session.propagate(start_frame_index=10))


async def _drain(frames: AsyncIterator[object]) -> None:
    async for _ in frames:
        pass


async def _sessions(client: AsyncClient, _session: VideoSession) -> None:
    opened = []
    try:
        for _ in range(2):
            opened.append(await client.create_session())
    finally:
        for session in opened:
            await session.delete()


async def _streams(client: AsyncClient, _session: VideoSession) -> None:
    refused = None
    async with client.stream():
        try:
            async with client.stream():
                pass
        except ResourceExhausted as error:
            refused = error
    if refused is not None:
        raise refused


async def _video_frames(client: AsyncClient, _session: VideoSession) -> None:
    async with client.session() as empty:
        await empty.append_video(video(61))


async def _video_bytes(client: AsyncClient, _session: VideoSession) -> None:
    async with client.session() as empty:
        await empty.append_video(bytes(2**20 + 1))


LIMITS: Sequence[Limit] = (
    Limit("gateway --max-sessions", "CreateSession", _sessions, "sessions"),
    Limit("gateway --max-sessions", "SegmentStream", _streams, "sessions"),
    Limit("gateway --max-frames", "AppendFrames", lambda _, s: s.append_frames([encoded(plain())]), "frames"),
    Limit("gateway --max-frames", "AppendFrames of a video", _video_frames, "frames"),
    Limit("gateway --max-session-bytes", "AppendFrames of a video", _video_bytes, "bytes"),
    Limit("tracker --max-objects", "AddPrompt", _objects, "objects"),
    Limit("tracker --max-prompted-frames", "AddPrompt", _prompted_frames, "prompts"),
    Limit("tracker --max-history", "AddPrompt", _history, "history"),
    Limit("tracker --max-history", "PropagateVideo", _history_by_tracking, "history"),
    Limit("tracker --session-disk-bytes", "AddPrompt", _tracked_long_ago, "", FrameOutOfMemory),
    Limit("tracker --session-disk-bytes", "PropagateVideo", _track_from_long_ago, "", FrameOutOfMemory),
)
