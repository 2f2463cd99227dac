"""Invalid input in a real mesh: the error names the field, and the session stays usable."""

import io
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from maskmesh import (
    AsyncClient,
    FailedPrecondition,
    ImageTooLarge,
    InvalidImage,
    InvalidPrompt,
    InvalidRequest,
    InvalidVideo,
    MaskmeshError,
    ModelMismatch,
    NothingPrompted,
    ObjectNotFound,
    Point,
    Prompt,
    RleMask,
    SessionNotFound,
    VideoSession,
)
from maskmesh.embedding_key import image_digest
from maskmesh.internal.v1 import encoder_pb2, encoder_pb2_grpc, tracker_pb2, tracker_pb2_grpc
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.types import RawImage
from maskmesh.wire import image_to_proto, prompt_to_proto
from tests.mesh import Mesh

CLICK = {1: Prompt.of(points=[(5, 5)])}


def png(width: int, height: int, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (b"", InvalidImage),
        (b"GIF89a not one of ours", InvalidImage),
        (png(64, 48)[:60], InvalidImage),
        (png(9000, 9000, mode="1"), ImageTooLarge),
    ],
    ids=["empty", "undecodable", "truncated", "over-large"],
)
async def test_invalid_images(client: AsyncClient, image: bytes, error: type[InvalidRequest]) -> None:
    with pytest.raises(error) as caught:
        await client.segment_image(image, CLICK)
    assert type(caught.value) is error
    assert caught.value.field == "image"


@pytest.mark.parametrize(
    ("frames", "error", "field"),
    [
        ([b""], InvalidImage, "frame"),
        ([b"nothing"], InvalidImage, "frame"),
        ([png(9000, 9000, mode="1")], ImageTooLarge, "frame"),
        ([png(64, 48), png(48, 64)], InvalidRequest, "frame"),
        ([], InvalidRequest, "content"),
    ],
    ids=["empty", "undecodable", "over-large", "another-size", "none"],
)
async def test_invalid_frames(
    client: AsyncClient, frames: list[bytes], error: type[InvalidRequest], field: str
) -> None:
    async with client.session() as session:
        with pytest.raises(error) as caught:
            await session.append_frames(frames)
        assert type(caught.value) is error
        assert caught.value.field == field
        # An upload is atomic: the valid frame before the invalid one was not added.
        assert await session.append_frames([png(80, 60)]) == 1
        await session.add_prompt(0, 1, points=[(5, 5)])


@pytest.mark.parametrize("video", [b"", b"no video at all" * 100], ids=["empty", "undecodable"])
async def test_invalid_videos(client: AsyncClient, clip: Path, video: bytes) -> None:
    async with client.session() as session:
        with pytest.raises(InvalidVideo) as caught:
            await session.append_video(video)
        assert caught.value.field == "video_chunk"
        assert await session.append_video(clip) > 0
        with pytest.raises(InvalidRequest):
            await session.append_video(clip)


async def test_error_of_a_large_upload_is_not_lost(client: AsyncClient) -> None:
    """The upload is larger than the transport buffers when the gateway refuses it."""
    async with client.session() as session:
        for _ in range(5):
            with pytest.raises(InvalidImage):
                await session.append_frames([b"nothing", *[png(200, 150) + bytes(2**20)] * 16])
        gone = await client.create_session()
        await gone.delete()
        with pytest.raises(SessionNotFound):
            await gone.append_video(bytes(24 * 2**20))


async def test_undecodable_frame_error_names_the_frame(client: AsyncClient) -> None:
    file = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGB").save(file, "JPEG")
    whole = file.getvalue()
    async with client.session() as session:
        await session.append_frames([whole, whole[:-400]])
        with pytest.raises(InvalidImage) as caught:
            await session.add_prompt(1, 1, points=[(5, 5)])
        assert caught.value.field == "frame_index"
        assert caught.value.metadata["frame_index"] == "1"
        await session.add_prompt(0, 1, points=[(5, 5)])


Call = Callable[[VideoSession], Awaitable[object]]

BAD_PROMPTS: dict[str, tuple[Call, str]] = {
    "point-outside": (lambda s: s.add_prompt(0, 1, points=[(641.5, 20)]), "prompt.points[0].x"),
    "second-point-outside": (
        lambda s: s.add_prompt(0, 1, points=[(1, 1), (1, -3)]),
        "prompt.points[1].y",
    ),
    "not-a-number": (
        lambda s: s.add_prompt(0, 1, points=[(float("nan"), 2)]),
        "prompt.points[0].x",
    ),
    "box-outside": (lambda s: s.add_prompt(0, 1, box=(0, 0, 642, 20)), "prompt.box.x1"),
    "box-swapped": (lambda s: s.add_prompt(0, 1, box=(50, 50, 20, 80)), "prompt.box"),
    "box-after-points": (lambda s: s.add_prompt(0, 9, box=(20, 20, 50, 80)), "prompt.box"),
    "nothing": (lambda s: s.add_prompt(0, 1), "prompt"),
    "mask-of-another-size": (
        lambda s: s.add_prompt(0, 1, mask=np.ones((10, 10), dtype=bool)),
        "prompt.mask",
    ),
    "mask-of-nonsense": (
        lambda s: s.add_prompt(0, 1, mask=RleMask(360, 640, b"zzzz")),
        "prompt.mask",
    ),
    "mask-with-points": (
        lambda s: s.add_prompt(0, 1, points=[(1, 1)], mask=np.ones((360, 640), dtype=bool)),
        "prompt.mask",
    ),
    "too-many-points": (lambda s: s.add_prompt(0, 1, points=[(1, 1)] * 257), "prompt.points"),
}


@pytest.mark.parametrize("name", BAD_PROMPTS)
async def test_invalid_prompts(client: AsyncClient, clip: Path, name: str) -> None:
    call, field = BAD_PROMPTS[name]
    async with client.session() as session:
        await session.append_video(clip)
        before = await session.add_prompt(0, 9, points=[(110, 262)])
        with pytest.raises(InvalidPrompt) as caught:
            await call(session)
        assert caught.value.field == field
        # The session has not changed: it has one object with the same mask on the frame.
        frames = [frame async for frame in session.propagate(max_frames=1)]
        assert frames[0].objects == before.objects


async def test_missing_frames(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        with pytest.raises(InvalidRequest) as caught:
            await session.add_prompt(0, 1, points=[(5, 5)])
        assert caught.value.field == "frame_index"
        await session.append_video(clip)
        with pytest.raises(InvalidRequest) as caught:
            await session.add_prompt(-1, 1, points=[(5, 5)])
        assert caught.value.field == "frame_index"
        await session.add_prompt(0, 1, points=[(5, 5)])
        with pytest.raises(InvalidRequest) as caught:
            await anext(session.propagate(start_frame_index=60))
        assert caught.value.field == "start_frame_index"


async def test_unknown_sessions_and_objects(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[(5, 5)])
        with pytest.raises(ObjectNotFound) as missing:
            await session.remove_object(2)
        assert missing.value.metadata == {"session_id": session.session_id, "obj_id": "2"}
        deleted = await client.create_session()
        await deleted.delete()
        calls: list[Awaitable[object]] = [
            deleted.append_video(clip),
            deleted.append_frames([png(8, 8)]),
            deleted.add_prompt(0, 1, points=[(5, 5)]),
            anext(deleted.propagate()),
            deleted.remove_object(1),
            deleted.reset(),
            deleted.delete(),
        ]
        for call in calls:
            with pytest.raises(SessionNotFound) as unknown:
                await call
            assert unknown.value.metadata == {"session_id": deleted.session_id}
        assert [f.frame_index async for f in session.propagate(max_frames=2)] == [0, 1]


async def test_nothing_prompted(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        with pytest.raises(NothingPrompted) as caught:
            await anext(session.propagate())
        assert isinstance(caught.value, FailedPrecondition)
        assert caught.value.metadata == {"session_id": session.session_id}
        await session.add_prompt(0, 1, points=[(5, 5)])
        assert [f.frame_index async for f in session.propagate(max_frames=1)] == [0]


@pytest.mark.parametrize(
    ("prompts", "field"),
    [
        ({}, "prompts"),
        ({1: Prompt()}, "prompts[0].prompt"),
        ({1: Prompt([Point(100, 5)])}, "prompts[0].prompt.points[0].x"),
        (
            {1: Prompt([Point(1, 5)]), 2: Prompt.of(mask=np.zeros((48, 64), dtype=bool))},
            "prompts[1].prompt.mask",
        ),
        (
            {1: Prompt.of(mask=np.zeros((8, 8), dtype=np.float32))},
            "prompts[0].prompt.mask.low_res_logits",
        ),
    ],
)
async def test_invalid_image_prompts(client: AsyncClient, prompts: dict[int, Prompt], field: str) -> None:
    with pytest.raises(InvalidPrompt) as caught:
        await client.segment_image(png(64, 48), prompts)
    assert caught.value.field == field


async def test_embedding_of_another_model_is_refused(mesh: Mesh) -> None:
    """Calls the tracker directly, like a gateway with outdated model information."""
    image = RawImage(np.zeros((48, 64, 3), dtype=np.uint8))
    async with (
        grpc.aio.insecure_channel(mesh.address("encoder")) as encoder_channel,
        grpc.aio.insecure_channel(mesh.address("tracker")) as tracker_channel,
    ):
        encoder = encoder_pb2_grpc.EncoderServiceStub(encoder_channel)
        tracker = tracker_pb2_grpc.TrackerServiceStub(tracker_channel)
        encoded = await encoder.Encode(
            encoder_pb2.EncodeRequest(key=image_digest(image), image=image_to_proto(image))
        )
        session_id = "foreign"
        await tracker.CreateSession(tracker_pb2.CreateSessionRequest(session_id=session_id))
        request = tracker_pb2.AddPromptRequest(
            session_id=session_id,
            obj_id=1,
            prompt=prompt_to_proto(Prompt([Point(5, 5)])),
            embedding=encoded.ref,
        )
        request.embedding.model_id = "sam2.1-small/0123456789abcdef/1024/float32/none/preprocess-1"
        with pytest.raises(ModelMismatch) as caught, translate_rpc_errors():
            await tracker.AddPrompt(request)
        assert caught.value.metadata["actual"] == request.embedding.model_id
        assert caught.value.metadata["expected"] == encoded.ref.model_id
        assert caught.value.metadata["field"] == "embedding.model_id"
        request.embedding.CopyFrom(encoded.ref)
        answer = await tracker.AddPrompt(request)
        assert answer.mask.obj_id == 1
        await tracker.DeleteSession(tracker_pb2.DeleteSessionRequest(session_id=session_id))


async def test_image_with_a_wrong_digest_is_not_cached(mesh: Mesh) -> None:
    image = RawImage(np.full((48, 64, 3), 7, dtype=np.uint8))
    async with grpc.aio.insecure_channel(mesh.address("encoder")) as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        key = "sha256:" + "0" * 64
        request = encoder_pb2.EncodeRequest(key=key, image=image_to_proto(image))
        with pytest.raises(InvalidRequest) as caught, translate_rpc_errors():
            await stub.Encode(request)
        assert caught.value.field == "key"
        asked = await stub.Encode(encoder_pb2.EncodeRequest(key=key))
        assert not asked.HasField("ref")


async def test_unreachable_endpoint_is_unavailable(clip: Path) -> None:
    async with AsyncClient("127.0.0.1:9", timeout=5) as client:
        with pytest.raises(MaskmeshError) as caught:
            await client.create_session()
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
