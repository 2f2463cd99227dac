"""Steps of sessions on the device: those that are ready together are computed together."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from maskmesh import telemetry
from maskmesh.masks import MaskOptions
from maskmesh.scheduling.admission import Priority, QueueEntry
from maskmesh.scheduling.device_worker import DeviceWorker, BatchedOperation
from maskmesh.types import ObjectMask
from tracker_svc.compute.output import object_masks
from tracker_svc.compute.tracker import Frame, Step, Tracker
from tracker_svc.memory.frame_state import FrameState

# Objects that a step is taken to have where batches are bounded: what is computed is rows of objects.
OBJECTS = 4


class Tracked(NamedTuple):
    """What tracking one step leaves for its result."""

    masks: list[ObjectMask]
    conditioning: bool
    """Whether an object was prompted on the frame."""


class _ShownStep(NamedTuple):
    step: Step
    options: MaskOptions


class Stepper:
    """Takes steps, at most ``max_batch`` with few objects at once.  Used on one event loop only."""

    def __init__(self, tracker: Tracker, worker: DeviceWorker, *, max_batch: int) -> None:
        self.tracker = tracker
        self._worker = worker
        most = max_batch if max_batch == 1 else max_batch * OBJECTS
        # Steps that would fall into batches of their own only wait for one another.
        self._tracking = BatchedOperation(
            self._track,
            most=most,
            weight=lambda shown: len(shown.step.objects),
            alike=lambda shown: shown.step.signatures,
        )
        self._memorizing = BatchedOperation(self._memorize, most=most, weight=lambda step: len(step.objects))

    async def track(self, step: Step, options: MaskOptions, *, tenant: str, since_ns: int | None) -> Tracked:
        """Track all objects of a step and make their masks; ``since_ns`` is when it was ready.

        Raises ResourceExhausted where too much is waiting.
        """
        return await self._worker.run_batched(
            self._tracking,
            _ShownStep(step, options),
            recorder=step.recorder,
            ticket=QueueEntry(Priority.AHEAD, tenant),
            since_ns=since_ns,
        )

    async def show(
        self,
        states: Mapping[int, FrameState],
        options: MaskOptions,
        frame: Frame,
        recorder: telemetry.StageRecorder,
        *,
        tenant: str,
        since_ns: int | None,
    ) -> list[ObjectMask]:
        """The masks of states that are remembered, by ``obj_id``; else as :meth:`track`."""

        def make() -> list[ObjectMask]:
            with recorder.stage(telemetry.POSTPROCESS):
                return object_masks(
                    list(states), list(states.values()), options, width=frame.width, height=frame.height
                )

        return await self._worker.run(
            make, recorder=recorder, ticket=QueueEntry(Priority.AHEAD, tenant), since_ns=since_ns
        )

    async def memorize_tracked(self, step: Step, *, tenant: str) -> None:
        """Make the memories of a frame that was tracked just now."""
        ticket = QueueEntry(Priority.AHEAD, tenant)
        await self._worker.run_batched(self._memorizing, step, ticket=ticket, continues=True)

    async def memorize_prompted(
        self, step: Step, *, waits: telemetry.StageRecorder, tenant: str, since_ns: int | None
    ) -> None:
        """Make a prompted frame a conditioning frame; waiting is recorded in ``waits``."""
        await self._worker.run(
            lambda: self.tracker.memorize_prompted(step.objects, step.frame_index, step.frame, step.recorder),
            recorder=waits,
            ticket=QueueEntry(Priority.AHEAD, tenant),
            since_ns=since_ns,
        )

    def _memorize(self, steps: Sequence[Step]) -> list[None]:
        self.tracker.memorize_tracked(steps)
        return [None for _ in steps]

    def _track(self, shown: Sequence[_ShownStep]) -> list[Tracked]:
        """Runs on the device's thread."""
        steps = [step for step, _ in shown]
        found = self.tracker.track(steps)
        recorders = [step.recorder for step in steps]
        with telemetry.stages(recorders, telemetry.POSTPROCESS):
            return [
                Tracked(
                    object_masks(
                        list(states),
                        list(states.values()),
                        options,
                        width=step.frame.width,
                        height=step.frame.height,
                    ),
                    any(step.frame_index in obj.bank.conditioning for obj in step.objects),
                )
                for (step, options), states in zip(shown, found, strict=True)
            ]
