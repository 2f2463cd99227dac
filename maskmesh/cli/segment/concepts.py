"""``maskmesh segment`` with concepts: all objects of each concept on an image."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from maskmesh.cli.media.outputs import MasksFile
from maskmesh.cli.media.overlay import Label, draw_labels, overlay, save_picture
from maskmesh.cli.prompt_options import FrameConcept
from maskmesh.cli.records.options import RecordOptions
from maskmesh.cli.records.recorder import recording
from maskmesh.cli.run import say
from maskmesh.cli.segment.segment import say_model
from maskmesh.cli.tracing import step
from maskmesh.client.async_client import AsyncClient
from maskmesh.concepts import ConceptInstance, ImageConcepts
from maskmesh.masks import ByteArray, RleMask
from maskmesh.media.pictures import read_picture


class ConceptJob(NamedTuple):
    """An image, the concepts to find on it, and the files to write."""

    source: Path
    concepts: Sequence[FrameConcept]
    score_threshold: float
    output: Path | None
    masks: Path | None
    records: RecordOptions


async def segment_concepts(job: ConceptJob, client: AsyncClient) -> None:
    """Find the concepts, print the instances, and write the files."""
    async with client.session() as session:
        say_model(session.model)
    async with recording(job.records, "segment", client) as recorder:
        recorded = recorder.sequence()
        found = await client.segment_concepts(
            job.source, [each.concept for each in job.concepts], score_threshold=job.score_threshold
        )
        recorded.add_call(0, {})
    for concept, instances in zip(job.concepts, found.concepts, strict=True):
        scores = ", ".join(f"{instance.score:.2f}" for instance in instances.instances)
        count = f"{len(instances.instances)} found"
        say(f"{concept.title}: {count}{f' ({scores})' if scores else ''}, presence {instances.presence:.2f}")
    if job.masks is not None:
        header = {"source": job.source.name, "width": found.width, "height": found.height, "is_image": True}
        with MasksFile(job.masks, header) as file:
            objects = [instance_json(job.concepts, *each) for each in number_instances(found)]
            file.write({"frame_index": 0, "objects": objects})
        say(f"masks: {job.masks}")
    if job.output is not None:
        with step("draw"):
            save_picture(job.output, _drawn(job, found))
        say(f"overlay: {job.output}")
    say(f"trace: {found.trace_id}")


def number_instances(found: ImageConcepts, *, first: int = 1) -> Iterator[tuple[int, int, ConceptInstance]]:
    """The number of each instance from ``first``, the index of its concept, and the instance."""
    number = first
    for index, concept in enumerate(found.concepts):
        for instance in concept.instances:
            yield number, index, instance
            number += 1


def instance_labels(
    concepts: Sequence[FrameConcept], numbered: Iterable[tuple[int, int, ConceptInstance]]
) -> list[Label]:
    """Labels with concept and score."""
    return [Label(n, i.box, f"{concepts[c].title} {i.score:.2f}") for n, c, i in numbered]


def instance_json(
    concepts: Sequence[FrameConcept], number: int, index: int, instance: ConceptInstance
) -> dict[str, object]:
    """One instance in the JSON form of ``--masks``."""
    assert isinstance(instance.mask, RleMask), "the command requests COCO RLE"
    box = instance.box
    return {
        "obj_id": number,
        "concept": concepts[index].title,
        "score": round(instance.score, 4),
        "box": [round(value, 2) for value in (box.x0, box.y0, box.x1, box.y1)],
        "segmentation": instance.mask.to_coco(),
    }


def _drawn(job: ConceptJob, found: ImageConcepts) -> ByteArray:
    numbered = list(number_instances(found))
    masks = {n: i.mask for n, _, i in numbered if isinstance(i.mask, RleMask)}
    return draw_labels(overlay(read_picture(job.source), masks), instance_labels(job.concepts, numbered))
