"""Image bytes in, embedding out: decoding, preprocessing and the image encoder."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from encoder_svc.cache import Embedding
from encoder_svc.config import EncoderSettings
from encoder_svc.image_decoding import decode_image
from encoder_svc.loading import LoadedModel
from encoder_svc.model.preprocess import preprocess
from maskmesh import telemetry
from maskmesh.errors import InvalidRequest
from maskmesh.images import image_digest
from maskmesh.malloc import trim_heap
from maskmesh.masks import ByteArray
from maskmesh.scheduling.admission import AdmissionPolicy, QueueEntry, PrioritySemaphore
from maskmesh.scheduling.batching import choose_batch
from maskmesh.scheduling.cores import share_cores
from maskmesh.scheduling.device_worker import DeviceWorker, BatchedOperation
from maskmesh.storage.shared_memory import Block, SharedArena
from maskmesh.types import Image, TensorSpec

logger = logging.getLogger(__name__)


class _Decoded(NamedTuple):
    """A picture that is ready for the device."""

    pixels: ByteArray
    recorder: telemetry.StageRecorder


class _Place(NamedTuple):
    """Where an embedding is written, and what says that it is."""

    data: ByteArray
    publish: Callable[[], Block | None]


class Encoder:
    """Owns the model and its device.

    Decoding has threads of its own, so that the model never waits for a picture that could have been
    ready; the device runs what waits, in batches where that gains, what a person waits for first.
    """

    def __init__(self, loaded: LoadedModel, settings: EncoderSettings) -> None:
        self.info = loaded.info
        self._model, self._device, self._dtype = loaded.model, loaded.device, loaded.dtype
        self._max_pixels = settings.max_pixels
        self._cores = share_cores(settings.shared_cores, "encoder", loaded.layout, torch.set_num_threads)
        self._worker = DeviceWorker("encoder-device", cores=self._cores, when_idle=trim_heap)
        self._decoders = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        self.max_batch = choose_batch(
            settings.max_batch, device=loaded.info.device, image_size=loaded.info.image_size
        )
        # Decoded pictures are large: only so many wait for the device at once.
        self._decoded = PrioritySemaphore(
            settings.decode_threads + self.max_batch + 1,
            reserved=settings.decode_threads,
            limits=AdmissionPolicy(self.max_batch + settings.max_interactive_queue, settings.max_queue),
            seconds_each=lambda: self._worker.seconds_each,
        )
        self._undecoded: set[telemetry.StageRecorder] = set()
        self._images = BatchedOperation(self._encode, most=self.max_batch)
        self._seen: set[str] = set()
        self._synchronize: Callable[[], None] | None = None
        if loaded.device.type == "cuda":
            self._synchronize = lambda: torch.cuda.synchronize(loaded.device)
        self.tensors: tuple[TensorSpec, ...] = ()
        self.arena: SharedArena | None = None
        """Where embeddings go while it has room, if there is one."""

    @property
    def num_bytes(self) -> int:
        """Bytes of one embedding; known after the warm-up."""
        return sum(spec.num_bytes for spec in self.tensors)

    @property
    def num_waiting(self) -> int:
        """How many pictures wait for the device."""
        return self._worker.num_waiting

    @property
    def num_undecoded(self) -> int:
        """How many images are not decoded yet."""
        return len(self._undecoded)

    def check_room(self, ticket: QueueEntry) -> None:
        """Raises ResourceExhausted where an image would be refused now."""
        self._decoded.check(ticket)

    async def warm_up(self) -> None:
        """Pay for what the first runs cost, and learn the shapes of embeddings."""
        start = time.perf_counter()
        size = self.info.image_size
        # Another size than the model's, so that resizing is warm too.
        pixels = np.zeros((size * 3 // 4, size, 3), dtype=np.uint8)
        with telemetry.tracer().start_as_current_span(telemetry.WARM_UP):
            # The usual case once more at the end: what is measured there is warm.
            for count in (1, self.max_batch, 1):
                images = [_Decoded(pixels, self.recorder()) for _ in range(count)]
                encode = partial(self._encode, images)
                work = encode if self._cores is None else partial(self._cores.with_each, encode)
                embeddings = await self._worker.run(work)
                telemetry.emit(images[0].recorder.records, None)
        self.tensors = tuple(embeddings[0].tensors)
        self.info = replace(self.info, warm_up_seconds=time.perf_counter() - start)
        logger.info(
            "%s on %s in %s with %d threads, warm after %.2f s",
            self.info.model_id, self.info.device, self.info.dtype, self.info.threads,
            self.info.warm_up_seconds,
        )  # fmt: skip

    def recorder(self) -> telemetry.StageRecorder:
        """A recorder for one piece of this encoder's work."""
        return telemetry.StageRecorder(
            seen=self._seen,
            synchronize=self._synchronize,
            attributes={telemetry.DEVICE: self.info.device, telemetry.DTYPE: self.info.dtype},
        )

    async def encode(
        self, image: Image, *, key: str, ticket: QueueEntry, recorder: telemetry.StageRecorder
    ) -> Embedding:
        """Encode one image whose content must have the digest ``key``.

        Raises InvalidRequest where it has another, InvalidImage or ImageTooLarge where it cannot be
        decoded, ResourceExhausted where too much is waiting.
        """
        submitted_ns = time.time_ns()

        def decode() -> ByteArray:
            waited = {telemetry.WAITS_FOR: "decoder"}
            recorder.add(telemetry.QUEUE, submitted_ns, time.time_ns(), dict(waited))
            return self._decode(image, key, recorder)

        self._undecoded.add(recorder)
        try:
            async with self._decoded.enter(ticket):
                pixels = await asyncio.get_running_loop().run_in_executor(self._decoders, decode)
                self._undecoded.remove(recorder)
                decoded_ns = recorder.records[-1].end_ns
                return await self._worker.run_batched(
                    self._images,
                    _Decoded(pixels, recorder),
                    recorder=recorder,
                    ticket=ticket,
                    since_ns=decoded_ns,
                )
        finally:
            self._undecoded.discard(recorder)

    def adopt(
        self, specs: Sequence[TensorSpec], data: bytes, image_width: int, image_height: int
    ) -> Embedding:
        """An embedding that was made elsewhere; a copy, not for the event loop."""
        place = self._place(len(data))
        place.data[:] = np.frombuffer(data, np.uint8)
        return Embedding(specs, place.data.data, image_width, image_height, block=place.publish())

    def close(self) -> None:
        """Stop the threads."""
        self._worker.close()
        self._decoders.shutdown(cancel_futures=True)

    def _decode(self, image: Image, key: str, recorder: telemetry.StageRecorder) -> ByteArray:
        with recorder.stage(telemetry.DECODE_IMAGE):
            if image_digest(image) != key:
                raise InvalidRequest("the image does not have the digest of the request", field="key")
            return decode_image(image, max_pixels=self._max_pixels)

    @torch.inference_mode()
    def _encode(self, images: Sequence[_Decoded]) -> list[Embedding]:
        recorders = [image.recorder for image in images]
        with telemetry.stages(recorders, telemetry.PREPROCESS):
            # Copies: pixels may lie in the request, which torch must not write to.
            hosts = [torch.from_numpy(p if p.flags.writeable else p.copy()) for p, _ in images]
            size, device, dtype = self.info.image_size, self._device, self._dtype
            batch = torch.cat([preprocess(host, size, device, dtype) for host in hosts])
        with telemetry.stages(recorders, telemetry.IMAGE_ENCODER, batch__size=len(images)):
            features = self._model(batch, partial(self._pause, recorders))._asdict()
            return [
                self._embedding({name: value[row] for name, value in features.items()}, image.pixels)
                for row, image in enumerate(images)
            ]

    def _pause(self, recorders: Sequence[telemetry.StageRecorder]) -> None:
        """Let go first what somebody waits for; the wait is recorded."""
        start = time.time_ns()
        if self._worker.run_urgent_work():
            end = time.time_ns()
            for recorder in recorders:
                recorder.wait(start, end, "click")

    def _embedding(self, tensors: Mapping[str, Tensor], pixels: ByteArray) -> Embedding:
        """The features of one image on the host, in shared memory while that has room."""
        height, width, _ = pixels.shape
        specs = [TensorSpec(n, self.info.dtype, tuple(t.shape)) for n, t in tensors.items()]
        place = self._place(sum(spec.num_bytes for spec in specs))
        _to_host(list(tensors.values()), place.data)
        return Embedding(specs, place.data.data, width, height, block=place.publish())

    def _place(self, num_bytes: int) -> "_Place":
        """Where to write an embedding."""
        if self.arena is not None and (allocated := self.arena.allocate(num_bytes)) is not None:
            return _Place(allocated[0], partial(self.arena.publish, allocated[1]))
        return _Place(np.empty(num_bytes, np.uint8), lambda: None)


def _to_host(tensors: list[Tensor], data: ByteArray) -> None:
    """Write the bytes of tensors one after the other."""
    start = 0
    for tensor in tensors:
        flat = tensor.reshape(-1).view(torch.uint8)
        torch.from_numpy(data[start : start + len(flat)]).copy_(flat)
        start += len(flat)
