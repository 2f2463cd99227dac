"""AppendFrames: images and videos as the messages of one upload."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import grpc

from maskmesh import wire
from maskmesh.client.connection import GatewayConnection
from maskmesh.errors import ResourceExhausted, Unavailable
from maskmesh.media.pictures import ImageLike, as_image
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.v1 import segmentation_pb2

CHUNK_BYTES = 2**20


def frame_messages(frames: Iterable[ImageLike]) -> Iterator[segmentation_pb2.AppendFramesRequest]:
    """One message for each image."""
    for frame in frames:
        yield segmentation_pb2.AppendFramesRequest(frame=wire.image_to_proto(as_image(frame)))


def video_messages(video: bytes | Path | str) -> Iterator[segmentation_pb2.AppendFramesRequest]:
    """The chunks of a video file, given by path or as bytes; one empty chunk for an empty file."""
    if isinstance(video, bytes):
        chunks: Iterable[bytes] = (
            video[i : i + CHUNK_BYTES] for i in range(0, max(len(video), 1), CHUNK_BYTES)
        )
    else:
        chunks = _file_chunks(Path(video))
    for chunk in chunks:
        yield segmentation_pb2.AppendFramesRequest(video_chunk=chunk)


async def upload(
    connection: GatewayConnection,
    config: segmentation_pb2.AppendFramesConfig,
    contents: Iterable[segmentation_pb2.AppendFramesRequest],
) -> segmentation_pb2.AppendFramesResponse:
    """Upload frames.  Raises the errors of AppendFrames; then nothing is added."""
    finish = segmentation_pb2.AppendFramesFinish()
    num_bytes = 0
    call = connection.stream_requests("AppendFrames")
    try:
        with translate_rpc_errors():
            try:
                await call.write(segmentation_pb2.AppendFramesRequest(config=config))
                for content in contents:
                    num_bytes += content.ByteSize()
                    await call.write(content)
                await call.write(segmentation_pb2.AppendFramesRequest(finish=finish))
                await call.done_writing()
            except grpc.RpcError:
                pass  # the server has refused the upload: its response has the reason
            response: segmentation_pb2.AppendFramesResponse = await call.answer()
            return response
    except (Unavailable, ResourceExhausted) as error:
        if error.metadata.get("resource", "proxy") == "proxy":
            error.args = (f"{error.message}; {num_bytes / 1e6:.1f} MB of the upload had been sent",)
        raise
    finally:
        call.cancel()  # an incomplete upload adds nothing


def _file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        chunk = file.read(CHUNK_BYTES)
        yield chunk
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
