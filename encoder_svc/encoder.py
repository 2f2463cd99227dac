"""Computes the embedding of an image: decoding, preprocessing and the image encoder."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from encoder_svc.cache import Embedding
from encoder_svc.config import EncoderSettings
from encoder_svc.model.image_encoder import ImageEncoder, TrunkEncoder
from encoder_svc.model.point_backbone import GreyEncoder, PointEncoder
from encoder_svc.model.preprocess import preprocess
from maskmesh import telemetry
from maskmesh.embedding_key import image_digest
from maskmesh.errors import InvalidRequest
from maskmesh.masks import ByteArray
from maskmesh.media.pictures import decode_picture
from maskmesh.nn.device import synchronizer
from maskmesh.nn.image_features import ImageEmbedding
from maskmesh.nn.loading import LoadedModel
from maskmesh.nn.preemption import Preemption
from maskmesh.scheduling.admission import AdmissionPolicy, PrioritySemaphore, QueueEntry
from maskmesh.scheduling.batching import choose_batch
from maskmesh.scheduling.cpu_sharing import CorePolicy, ThreadLayout, core_policy
from maskmesh.scheduling.device_worker import BatchedOperation, DeviceWorker
from maskmesh.scheduling.malloc import trim_heap
from maskmesh.storage.scratch import ScratchFolder
from maskmesh.storage.shared_memory import SHARED_MEMORY_FILE, SHARED_MEMORY_PREFIX, SharedArena
from maskmesh.types import Block, Image, RawImage, TensorSpec

logger = logging.getLogger(__name__)


class _Decoded(NamedTuple):
    """A decoded image."""

    pixels: ByteArray
    recorder: telemetry.StageRecorder


class _Buffer(NamedTuple):
    """Memory for an embedding, and a function that publishes the memory and returns its block."""

    data: ByteArray
    publish: Callable[[], Block | None]


AnyLoadedModel: TypeAlias = LoadedModel[ImageEncoder | TrunkEncoder] | LoadedModel[PointEncoder | GreyEncoder]


class EncoderDevice(NamedTuple):
    """The thread that computes, and how it shares the cores."""

    cores: CorePolicy
    worker: DeviceWorker

    @classmethod
    def of(cls, layout: ThreadLayout, settings: EncoderSettings) -> "EncoderDevice":
        """The device of a service whose models compute with the threads of ``layout``."""
        cores = core_policy(settings.shared_cores, "encoder", layout, torch.set_num_threads)
        # Encoders admit images before they are decoded, so the worker has no admission policy.
        return cls(cores, DeviceWorker("encoder-device", cores=cores, on_idle=trim_heap))


class Encoder:
    """Owns a model, and encodes images on a device.

    Separate threads decode images, so that the device does not wait for decoding.  The device encodes
    batches, interactive images first.
    """

    def __init__(self, loaded: AnyLoadedModel, settings: EncoderSettings, device: EncoderDevice) -> None:
        """Several encoders may share a ``device``."""
        self.info = loaded.info
        self._model, self._device, self._dtype = loaded.model, loaded.device, loaded.dtype
        self._limit = settings.pixel_limit
        self._cores, self._worker = device.cores, device.worker
        self._preemption = Preemption(self._model, self._worker.run_urgent_work)
        self._decoders = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        self.max_batch = choose_batch(
            settings.max_batch, device=loaded.info.device, image_size=loaded.info.image_size
        )
        # Decoded images are large, so their number is bounded.
        self._slots = PrioritySemaphore(
            settings.decode_threads + self.max_batch + 1,
            reserved=settings.decode_threads,
            policy=AdmissionPolicy(self.max_batch + settings.max_interactive_queue, settings.max_queue),
            seconds_each=lambda: self._worker.seconds_each,
        )
        self._undecoded: set[telemetry.StageRecorder] = set()
        self._operation = BatchedOperation(self._encode, max_weight=self.max_batch)
        self._seen: set[str] = set()
        self._synchronize = synchronizer(loaded.device)
        self.tensors: tuple[TensorSpec, ...] = ()
        self.shared_memory: ScratchFolder | None = None
        """The folder of the shared memory; None if shared memory is not used."""
        self.arena: SharedArena | None = None
        """Shared memory for embeddings; None if shared memory is not used."""

    @property
    def num_bytes(self) -> int:
        """Size of one embedding in bytes; 0 before the warm-up."""
        return sum(spec.num_bytes for spec in self.tensors)

    @property
    def num_queued(self) -> int:
        """Number of decoded images in the queue of the device."""
        return self._worker.num_queued

    @property
    def num_undecoded(self) -> int:
        """Number of images that are not decoded yet."""
        return len(self._undecoded)

    def check_room(self, entry: QueueEntry) -> None:
        """Raises ResourceExhausted if an image would be refused now."""
        self._slots.check(entry)

    async def warm_up(self) -> None:
        """Run the model with the smallest and the largest batch, and record the shapes of embeddings."""
        start = time.perf_counter()
        size = self.info.image_size
        # The size differs from the model's input, so that resizing is warmed up too.
        pixels = np.zeros((size * 3 // 4, size, 3), dtype=np.uint8)
        with telemetry.tracer().start_as_current_span(telemetry.WARM_UP):
            # A single image is encoded again at the end, to record its time with a warm model.
            for count in (1, self.max_batch, 1) if self.max_batch > 1 else (1, 1):
                images = [_Decoded(pixels, self.recorder()) for _ in range(count)]
                embeddings = await self._worker.run(
                    partial(self._cores.warm_up, partial(self._encode, images))
                )
                telemetry.emit(images[0].recorder.records, None)
        self.tensors = tuple(embeddings[0].tensors)
        self.info = replace(self.info, warm_up_seconds=time.perf_counter() - start)
        logger.info(
            "%s on %s in %s with %d threads, warm after %.2f s",
            self.info.model_id, self.info.device, self.info.dtype, self.info.threads,
            self.info.warm_up_seconds,
        )  # fmt: skip

    def recorder(self) -> telemetry.StageRecorder:
        """Create a recorder of the stages of one image."""
        return telemetry.StageRecorder(
            seen=self._seen,
            synchronize=self._synchronize,
            attributes={telemetry.DEVICE: self.info.device, telemetry.DTYPE: self.info.dtype},
        )

    async def encode(
        self, image: Image, *, key: str, entry: QueueEntry, recorder: telemetry.StageRecorder
    ) -> Embedding:
        """Encode one image, whose digest must be ``key``.

        Raises InvalidRequest if the digest differs, InvalidImage or ImageTooLarge if the image cannot be
        decoded, ResourceExhausted if the queue is full.
        """
        submitted_ns = time.time_ns()

        def decode() -> ByteArray:
            recorder.wait(submitted_ns, time.time_ns(), "decoder")
            return self._decode(image, key, recorder)

        self._undecoded.add(recorder)
        try:
            async with self._slots.acquire(entry):
                pixels = await asyncio.get_running_loop().run_in_executor(self._decoders, decode)
                self._undecoded.remove(recorder)
                decoded_ns = recorder.records[-1].end_ns
                return await self._worker.run_batched(
                    self._operation,
                    _Decoded(pixels, recorder),
                    recorder=recorder,
                    entry=entry,
                    since_ns=decoded_ns,
                )
        finally:
            self._undecoded.discard(recorder)

    def adopt(
        self, specs: Sequence[TensorSpec], data: bytes, image_width: int, image_height: int
    ) -> Embedding:
        """Copy an embedding from the shared cache into a buffer of this encoder.

        Blocks, so it must not run on the event loop.
        """
        buffer = self._allocate(len(data))
        buffer.data[:] = np.frombuffer(data, np.uint8)
        return Embedding(specs, buffer.data.data, image_width, image_height, block=buffer.publish())

    def share_memory(self, folder: Path, budget_bytes: int) -> None:
        """Keep embeddings in shared memory, in a folder of its own below ``folder``; failures are logged."""
        try:
            self.shared_memory = ScratchFolder(SHARED_MEMORY_PREFIX, folder)
            self.arena = SharedArena(
                self.shared_memory.path / SHARED_MEMORY_FILE,
                block_bytes=self.num_bytes,
                budget_bytes=budget_bytes,
            )
        except OSError as error:
            self.shared_memory = None
            logger.warning("shared memory is not used: %s", error)

    def close(self) -> None:
        """Stop the threads that decode, and delete the shared memory."""
        self._decoders.shutdown(cancel_futures=True)
        if self.shared_memory is not None:
            self.shared_memory.close()

    def _decode(self, image: Image, key: str, recorder: telemetry.StageRecorder) -> ByteArray:
        with recorder.stage(telemetry.DECODE_IMAGE):
            if image_digest(image) != key:
                raise InvalidRequest("the image does not have the digest of the request", field="key")
            if isinstance(image, RawImage):
                return image.pixels
            return decode_picture(image.data, self._limit, field="image")

    @torch.inference_mode()
    def _encode(self, images: Sequence[_Decoded]) -> list[Embedding]:
        recorders = [image.recorder for image in images]
        with telemetry.stages(recorders, telemetry.PREPROCESS):
            # Read-only pixels may be part of a request message, so they are copied.
            hosts = [torch.from_numpy(p if p.flags.writeable else p.copy()) for p, _ in images]
            batch = torch.cat([self._preprocess(host) for host in hosts])
        with telemetry.stages(recorders, telemetry.IMAGE_ENCODER, {telemetry.BATCH_SIZE: len(images)}):
            with self._preemption.enabled(recorders):
                embeddings: ImageEmbedding = self._model(batch)
            features = embeddings._asdict()
            return [
                self._embedding({name: value[row] for name, value in features.items()}, image.pixels)
                for row, image in enumerate(images)
            ]

    def _preprocess(self, pixels: Tensor) -> Tensor:
        size, normalization = self.info.image_size, self._model.normalization
        return preprocess(pixels, size, self._device, self._dtype, normalization)

    def _embedding(self, tensors: Mapping[str, Tensor], pixels: ByteArray) -> Embedding:
        """Copy the features of one image to the host, into shared memory if it has a free block."""
        height, width, _ = pixels.shape
        specs = [TensorSpec(n, self.info.dtype, tuple(t.shape)) for n, t in tensors.items()]
        buffer = self._allocate(sum(spec.num_bytes for spec in specs))
        _to_host(list(tensors.values()), buffer.data)
        return Embedding(specs, buffer.data.data, width, height, block=buffer.publish())

    def _allocate(self, num_bytes: int) -> _Buffer:
        if self.arena is not None and (allocated := self.arena.allocate(num_bytes)) is not None:
            return _Buffer(allocated[0], partial(self.arena.publish, allocated[1]))
        return _Buffer(np.empty(num_bytes, np.uint8), lambda: None)


def _to_host(tensors: list[Tensor], data: ByteArray) -> None:
    """Write the bytes of the tensors to ``data``, without gaps."""
    start = 0
    for tensor in tensors:
        flat = tensor.reshape(-1).view(torch.uint8)
        torch.from_numpy(data[start : start + len(flat)]).copy_(flat)
        start += len(flat)
