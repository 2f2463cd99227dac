"""One clip or picture that is open in the page: its file, its session, and the masks that are known."""

import asyncio
import contextlib
import io
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
from PIL import Image as PillowImage

from maskmesh.aio import stop
from maskmesh.cli.export.masks_document import DocumentFrame, DocumentObject, MasksDocument
from maskmesh.cli.media.outputs import frame_json as masks_json
from maskmesh.client.session import VideoSession
from maskmesh.concepts import Concept
from maskmesh.errors import MaskmeshError
from maskmesh.masks import ByteArray, RleMask
from maskmesh.media.pictures import is_picture, read_picture
from maskmesh.media.video_index import index_video
from maskmesh.media.video_reader import VideoReader
from maskmesh.types import FrameMasks, Point

logger = logging.getLogger(__name__)

JPEG_QUALITY = 88


class OpenedSource:
    """A source and its session.  Used on one event loop only."""

    def __init__(self, name: str, folder: Path, path: Path, session: VideoSession) -> None:
        """``path`` is the file of the source in ``folder``, which is deleted at the end."""
        self.name = name
        self.session = session
        self.results: dict[int, FrameMasks] = {}
        """The latest masks of each frame, by its index."""
        self._titles: dict[int, str] = {}
        self._folder = folder
        self._path = path
        self._picture: ByteArray | None = None
        self._reader: VideoReader | None = None
        self._reading = asyncio.Lock()
        self._is_closed = False
        self._renewing = asyncio.ensure_future(self._renew())

    async def _renew(self) -> None:
        """Keep the session while the source is open: frames are shown without a call of the gateway."""
        while True:
            await asyncio.sleep(self.session.ttl.total_seconds() / 3)
            try:
                await self.session.get_state()
            except (MaskmeshError, grpc.RpcError) as error:
                # The next call tells the user; the gateway may be back until then.
                logger.info("session %s is not renewed: %s", self.session.session_id, error)

    async def load(self) -> None:
        """Send the frames to the gateway.  Raises the errors of the upload."""
        if await asyncio.to_thread(is_picture, self._path):
            self._picture = await asyncio.to_thread(read_picture, self._path)
            await self.session.append_frames([self._path])
            return
        index = await asyncio.to_thread(index_video, self._path)
        self._reader = VideoReader(self._path, index)
        await self.session.append_video(self._path)

    async def jpeg(self, frame_index: int) -> bytes:
        """A frame as a JPEG file.  Raises IndexError."""
        if not 0 <= frame_index < self.session.num_frames:
            raise IndexError(f"there is no frame {frame_index}")
        async with self._reading:
            if self._is_closed:
                raise IndexError("the source is not open any more")
            return await asyncio.to_thread(self._encode, frame_index)

    def _encode(self, frame_index: int) -> bytes:
        if self._picture is not None:
            pixels = self._picture
        else:
            assert self._reader is not None, "a source is a picture or a video"
            pixels = self._reader.read(frame_index).pixels
        file = io.BytesIO()
        PillowImage.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
        return file.getvalue()

    async def prompt(
        self,
        frame_index: int,
        obj_id: int,
        points: list[Point],
        box: tuple[float, float, float, float] | None,
        *,
        clear_previous: bool,
    ) -> FrameMasks:
        """Prompt an object; its mask joins those of the frame."""
        found = await self.session.add_prompt(
            frame_index, obj_id, points=points, box=box, clear_previous=clear_previous
        )
        self._merge(found)
        return found

    async def add_concept(self, concept_id: int, phrase: str, frame_index: int) -> FrameMasks | None:
        """Find the objects of a phrase on a frame and on those that are tracked later."""
        found = await self.session.add_concept(concept_id, Concept(phrase), frame_index=frame_index)
        self._titles[concept_id] = phrase
        if found is not None:
            self._merge(found)
        return found

    async def clear(self, frame_index: int, obj_id: int) -> tuple[FrameMasks | None, list[int]]:
        """Remove the prompts of an object on a frame, and its mask there.

        An object without prompts is removed, with its masks on all frames.  Returns the masks that remain on
        the frame, and the objects that remain.
        """
        remaining = await self.session.clear_prompts(frame_index, obj_id)
        self._drop_masks(obj_id, [frame_index] if obj_id in remaining else list(self.results))
        return self.results.get(frame_index), remaining

    async def remove_object(self, obj_id: int) -> None:
        """Remove an object and its masks."""
        await self.session.remove_object(obj_id)
        self._drop_masks(obj_id, list(self.results))

    def _drop_masks(self, obj_id: int, frames: Iterable[int]) -> None:
        for index in frames:
            if (known := self.results.get(index)) is not None:
                kept = {i: mask for i, mask in known.objects.items() if i != obj_id}
                self.results[index] = _with_objects(known, kept)

    async def propagate(self, start: int, *, reverse: bool) -> AsyncIterator[FrameMasks]:
        """Track all objects from a frame on."""
        results = self.session.propagate(start_frame_index=start, reverse=reverse)
        async with contextlib.aclosing(results):
            async for frame in results:
                self.results[frame.frame_index] = frame
                yield frame

    def document(self) -> MasksDocument:
        """The masks for an export."""
        frames = [
            DocumentFrame(
                index,
                [
                    DocumentObject(
                        obj_id,
                        mask.mask,
                        self._titles.get(mask.concept_id or 0, "object"),
                        mask.concept_score or mask.predicted_iou,
                    )
                    for obj_id, mask in frame.objects.items()
                    if isinstance(mask.mask, RleMask)
                ],
            )
            for index, frame in sorted(self.results.items())
        ]
        size = self.session.width, self.session.height
        return MasksDocument(self.name, *size, frames, is_image=self._picture is not None)

    def masks(self) -> dict[str, Any]:
        """The masks in the form of ``--masks``."""
        frames = [masks_json(frame) for _, frame in sorted(self.results.items())]
        header: dict[str, Any] = {
            "source": self.name,
            "width": self.session.width,
            "height": self.session.height,
            "is_image": self._picture is not None,
        }
        if self._titles:
            header["concepts"] = [{"concept_id": i, "phrase": p} for i, p in self._titles.items()]
        return header | {"frames": frames}

    async def close(self) -> None:
        """Delete the session and the file.  A session that cannot be deleted ends by its lease."""
        await stop(self._renewing)
        try:
            async with self._reading:  # a decoder is used by one thread at a time
                self._is_closed = True
                if self._reader is not None:
                    self._reader.close()
            await self.session.delete()
        except (MaskmeshError, grpc.RpcError) as error:
            logger.info("session %s is not deleted: %s", self.session.session_id, error)
        finally:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def _merge(self, found: FrameMasks) -> None:
        known = self.results.get(found.frame_index)
        objects = dict(known.objects) if known is not None else {}
        self.results[found.frame_index] = _with_objects(found, objects | dict(found.objects))


def _with_objects(frame: FrameMasks, objects: dict[int, Any]) -> FrameMasks:
    return replace(frame, objects=objects)


def new_folder() -> Path:
    """A folder for the file of a source."""
    return Path(tempfile.mkdtemp(prefix="maskmesh-web-"))
