"""Image bytes in, embedding out: decoding, preprocessing and the image encoder."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from encoder_svc.cache import Embedding
from encoder_svc.config import EncoderSettings
from encoder_svc.images import decode_image
from encoder_svc.loading import LoadedModel
from encoder_svc.model.preprocess import preprocess
from maskmesh import telemetry
from maskmesh.device_worker import DeviceWorker, Ticket, TicketGate
from maskmesh.errors import InvalidRequest
from maskmesh.masks import ByteArray
from maskmesh.types import Image, TensorSpec
from maskmesh.wire import image_key

logger = logging.getLogger(__name__)

WARM_UP_RUNS = 2


class Encoder:
    """Owns the model and its device.

    Decoding has threads of its own, so that the model never waits for a picture that could have been
    ready; the device runs one image at a time, those that a person waits for first.
    """

    def __init__(self, loaded: LoadedModel, settings: EncoderSettings) -> None:
        self.info = loaded.info
        self._model, self._device, self._dtype = loaded.model, loaded.device, loaded.dtype
        self._max_pixels = settings.max_pixels
        self._worker = DeviceWorker("encoder-device", max_queue=settings.max_queue)
        self._decoders = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        self._decoded = TicketGate(
            settings.decode_threads + 1,
            reserved=settings.decode_threads,
            max_waiting=settings.max_queue,
        )
        self._seen: set[str] = set()
        self._synchronize: Callable[[], None] | None = None
        if loaded.device.type == "cuda":
            self._synchronize = lambda: torch.cuda.synchronize(loaded.device)
        self.tensors: tuple[TensorSpec, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Bytes of one embedding; known after the warm-up."""
        return sum(spec.num_bytes for spec in self.tensors)

    async def warm_up(self) -> None:
        """Pay for what the first runs cost, and learn the shapes of embeddings."""
        start = time.perf_counter()
        size = self.info.image_size
        # Another size than the model's, so that resizing is warm too.
        pixels = np.zeros((size * 3 // 4, size, 3), dtype=np.uint8)
        with telemetry.tracer().start_as_current_span(telemetry.WARM_UP):
            for _ in range(WARM_UP_RUNS):
                recorder = self.recorder()
                embedding = await self._worker.run(partial(self._encode, pixels, recorder))
                telemetry.emit(recorder.records, None)
        self.tensors = tuple(embedding.tensors)
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
        self, image: Image, *, key: str, ticket: Ticket, recorder: telemetry.StageRecorder
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

        # Decoded pictures are large: only so many wait for the device at once.
        async with self._decoded.enter(ticket):
            pixels = await asyncio.get_running_loop().run_in_executor(self._decoders, decode)
            decoded_ns = recorder.records[-1].end_ns
            return await self._worker.run(
                lambda: self._encode(pixels, recorder),
                recorder=recorder,
                ticket=ticket,
                since_ns=decoded_ns,
            )

    def close(self) -> None:
        """Stop the threads."""
        self._worker.close()
        self._decoders.shutdown(cancel_futures=True)

    def _decode(self, image: Image, key: str, recorder: telemetry.StageRecorder) -> ByteArray:
        with recorder.stage(telemetry.DECODE_IMAGE):
            if image_key(image) != key:
                raise InvalidRequest("the image does not have the digest of the request", field="key")
            return decode_image(image, max_pixels=self._max_pixels)

    @torch.inference_mode()
    def _encode(self, pixels: ByteArray, recorder: telemetry.StageRecorder) -> Embedding:
        height, width, _ = pixels.shape
        with recorder.stage(telemetry.PREPROCESS):
            # A copy: pixels may lie in the request, which torch must not write to.
            host = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())
            image = preprocess(host, self.info.image_size, self._device, self._dtype)
        with recorder.stage(telemetry.IMAGE_ENCODER, batch__size=1):
            features = self._model(image)
            tensors = {name: value[0] for name, value in features._asdict().items()}
            data = _to_host(list(tensors.values()))
        specs = [TensorSpec(n, self.info.dtype, tuple(t.shape)) for n, t in tensors.items()]
        return Embedding(specs, data, width, height)


def _to_host(tensors: list[Tensor]) -> memoryview:
    """The bytes of tensors one after the other."""
    flat = torch.cat([t.reshape(-1).view(torch.uint8) for t in tensors])
    return flat.cpu().numpy().data
