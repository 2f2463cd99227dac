"""Runs a batch: a few items at a time over one mesh; results appear when they are complete."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress, TaskID

from maskmesh.cli.batch.items import Item
from maskmesh.cli.batch.prompts_file import ItemPrompts
from maskmesh.cli.media.outputs import MasksFile, object_json, rle_masks
from maskmesh.cli.media.overlay import (
    Label,
    draw_labels,
    overlay,
    save_picture,
)
from maskmesh.cli.media.result_files import ResultFiles
from maskmesh.cli.media.source_frames import OverlaySource
from maskmesh.cli.records.options import RecordOptions
from maskmesh.cli.records.recorder import RecordedSequence, recording
from maskmesh.cli.run import describe, progress_bars, say, warn
from maskmesh.cli.segment.concepts import instance_json, instance_labels, number_instances
from maskmesh.client.async_client import AsyncClient
from maskmesh.concepts import ConceptOptions
from maskmesh.masks import RleMask
from maskmesh.media.pictures import read_picture

FAILURES_NAME = "batch-failures.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob:
    """Arguments of one run of the command."""

    items: Sequence[tuple[Item, ItemPrompts]]
    """The items that are not done, with their prompts."""
    num_done_before: int
    num_unprompted: int
    failures_path: Path
    concurrency: int
    max_frames: int
    concept_options: ConceptOptions
    records: RecordOptions


@dataclass(slots=True)
class _Outcome:
    """What became of the items so far."""

    done: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


class BatchFailed(click.ClickException):
    """Some items failed; they are listed before."""


async def run_batch(job: BatchJob, client: AsyncClient) -> None:
    """Process all items.  Raises BatchFailed after the last one if some failed."""
    outcome = _Outcome()
    slots = asyncio.Semaphore(job.concurrency)
    try:
        async with AsyncExitStack() as stack:
            progress = stack.enter_context(progress_bars())
            recorder = await stack.enter_async_context(recording(job.records, "batch", client))
            total = progress.add_task("all", total=len(job.items))

            async def process(item: Item, prompts: ItemPrompts) -> None:
                async with slots:
                    task = progress.add_task(item.name, total=None)
                    try:
                        recorded = recorder.sequence(item.name)
                        await _Run(job, item, prompts, recorded, (progress, task)).run(client)
                        outcome.done.append(item.name)
                    except Exception as error:
                        outcome.failures.append((item.name, describe(error)))
                        warn(f"{item.name}: {describe(error)}")
                    finally:
                        progress.remove_task(task)
                        progress.advance(total)

            async with asyncio.TaskGroup() as tasks:
                for item, prompts in job.items:
                    tasks.create_task(process(item, prompts))
    finally:
        _say_outcome(job, outcome)
    if outcome.failures:
        raise BatchFailed(f"{len(outcome.failures)} of {len(job.items)} items failed: {job.failures_path}")


def _say_outcome(job: BatchJob, outcome: _Outcome) -> None:
    """Print a summary, and write the list of failures."""
    rest = len(job.items) - len(outcome.done) - len(outcome.failures)
    counts = {
        "done": len(outcome.done),
        "failed": len(outcome.failures),
        "not finished": rest,
        "done before": job.num_done_before,
        "without prompts": job.num_unprompted,
    }
    say(", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing to do")
    if outcome.failures:
        listed = [{"file": name, "error": error} for name, error in sorted(outcome.failures)]
        job.failures_path.write_text(json.dumps(listed, indent=2) + "\n")
    elif not rest:
        job.failures_path.unlink(missing_ok=True)


@asynccontextmanager
async def _complete(paths: Sequence[Path | None]) -> AsyncIterator[list[Path | None]]:
    """Yields paths to write to, which get their names if the body succeeds, and are deleted otherwise."""
    parts = [None if path is None else path.with_name(f".part-{os.getpid()}-{path.name}") for path in paths]
    try:
        yield parts
        for part, path in zip(parts, paths, strict=True):
            if part is not None and path is not None:
                part.replace(path)
    finally:
        for part in parts:
            if part is not None:
                part.unlink(missing_ok=True)


class _Run:
    """The work on one item."""

    def __init__(
        self,
        job: BatchJob,
        item: Item,
        prompts: ItemPrompts,
        recorded: RecordedSequence,
        shown: tuple[Progress, TaskID],
    ) -> None:
        self._job = job
        self._item = item
        self._prompts = prompts
        self._recorded = recorded
        self._progress, self._task = shown
        self._titles = {n: concept.title for n, concept in enumerate(prompts.concepts, start=1)}

    async def run(self, client: AsyncClient) -> None:
        """Segment the item, and write its results.  Raises MaskmeshError, OSError, ValueError."""
        item = self._item
        item.masks.parent.mkdir(parents=True, exist_ok=True)
        async with _complete((item.masks, item.overlay)) as (masks, drawn):
            if item.is_video:
                await self._video(client, masks, drawn)
            else:
                await self._image(client, masks, drawn)

    async def _video(self, client: AsyncClient, masks: Path | None, drawn: Path | None) -> None:
        source = self._item.source
        async with client.session() as session:
            await session.append_video(source)
            for (frame, obj_id), prompt in self._prompts.merged().items():
                await session.add_prompt(frame, obj_id, points=prompt.points, box=prompt.box)
            for number, concept in enumerate(self._prompts.concepts, start=1):
                await session.add_concept(
                    number, concept.concept, frame_index=concept.frame, options=self._job.concept_options
                )
            total = session.num_frames - min(self._prompts.frames)
            self._progress.update(self._task, total=min(total, self._job.max_frames or total))
            frames = None
            if drawn is not None:
                frames = await asyncio.to_thread(OverlaySource, source, drawn, session.frames_per_second)
            header = self._header(session.width, session.height)
            results = session.propagate(max_frames=self._job.max_frames)
            async with ResultFiles(masks, header, frames, self._titles) as files, aclosing(results):
                self._recorded.restart()
                async for result in results:
                    self._recorded.add(result)
                    await files.write(result)
                    self._progress.advance(self._task)

    async def _image(self, client: AsyncClient, masks: Path | None, drawn: Path | None) -> None:
        if any(self._prompts.frames):
            raise ValueError("an image has only frame 0")
        source = self._item.source
        self._recorded.restart()
        objects: list[dict[str, object]] = []
        shown: dict[int, RleMask] = {}
        labels: list[Label] = []
        width = height = 0
        if self._prompts.prompts:
            prompts = {obj_id: prompt for (_, obj_id), prompt in self._prompts.merged().items()}
            clicked = await client.segment_image(source, prompts)
            width, height = clicked.width, clicked.height
            best = {obj_id: found[0] for obj_id, found in clicked.objects.items()}
            objects += [object_json(mask) for mask in best.values()]
            shown |= rle_masks(best)
        if self._prompts.concepts:
            concepts = [each.concept for each in self._prompts.concepts]
            threshold = self._job.concept_options.score_threshold
            found = await client.segment_concepts(source, concepts, score_threshold=threshold)
            width, height = found.width, found.height
            numbered = list(number_instances(found, first=max(shown, default=0) + 1))
            objects += [instance_json(self._prompts.concepts, *each) for each in numbered]
            shown |= {n: i.mask for n, _, i in numbered if isinstance(i.mask, RleMask)}
            labels = instance_labels(self._prompts.concepts, numbered)
        self._recorded.add_call(0, {})
        with MasksFile(masks, self._header(width, height)) as file:
            file.write({"frame_index": 0, "objects": objects})
        if drawn is not None:
            picture = overlay(await asyncio.to_thread(read_picture, source), shown)
            await asyncio.to_thread(save_picture, drawn, draw_labels(picture, labels))

    def _header(self, width: int, height: int) -> dict[str, Any]:
        header: dict[str, Any] = {
            "source": self._item.name,
            "width": width,
            "height": height,
            "is_image": not self._item.is_video,
        }
        if self._titles:
            header["concepts"] = [{"concept_id": n, "phrase": title} for n, title in self._titles.items()]
        return header
