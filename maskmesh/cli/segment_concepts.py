"""``maskmesh segment`` with concepts: all objects of each concept on an image."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from maskmesh.cli.media.outputs import MasksFile
from maskmesh.cli.media.overlay import Label, draw_labels, overlay, save_picture
from maskmesh.cli.run import say
from maskmesh.cli.segment import say_model
from maskmesh.cli.tracing import step
from maskmesh.client.async_client import AsyncClient
from maskmesh.concepts import Concept, ConceptInstance, ImageConcepts
from maskmesh.masks import ByteArray, RleMask
from maskmesh.media.pictures import read_picture


class ConceptJob(NamedTuple):
    """An image, the concepts to find on it, and the files to write."""

    source: Path
    concepts: Sequence[Concept]
    score_threshold: float
    output: Path | None
    masks: Path | None


async def segment_concepts(job: ConceptJob, client: AsyncClient) -> None:
    """Find the concepts, print the instances, and write the files."""
    async with client.session() as session:
        say_model(session.model)
    found = await client.segment_concepts(job.source, job.concepts, score_threshold=job.score_threshold)
    for concept, instances in zip(job.concepts, found.concepts, strict=True):
        scores = ", ".join(f"{instance.score:.2f}" for instance in instances.instances)
        count = f"{len(instances.instances)} found"
        say(f"{title(concept)}: {count}{f' ({scores})' if scores else ''}, presence {instances.presence:.2f}")
    if job.masks is not None:
        header = {"source": job.source.name, "width": found.width, "height": found.height}
        with MasksFile(job.masks, header) as file:
            objects = [_instance_json(job, *each) for each in _numbered(found)]
            file.write({"frame_index": 0, "objects": objects})
        say(f"masks: {job.masks}")
    if job.output is not None:
        with step("draw"):
            save_picture(job.output, _drawn(job, found))
        say(f"overlay: {job.output}")
    say(f"trace: {found.trace_id}")


def title(concept: Concept) -> str:
    """The phrase of a concept, or what stands for it."""
    return concept.phrase or "boxes"


def _numbered(found: ImageConcepts) -> Iterator[tuple[int, int, ConceptInstance]]:
    """The number of each instance from 1, the index of its concept, and the instance."""
    number = 0
    for index, concept in enumerate(found.concepts):
        for instance in concept.instances:
            number += 1
            yield number, index, instance


def _drawn(job: ConceptJob, found: ImageConcepts) -> ByteArray:
    instances = list(_numbered(found))
    masks = {n: i.mask for n, _, i in instances if isinstance(i.mask, RleMask)}
    labels = [Label(n, i.box, f"{title(job.concepts[c])} {i.score:.2f}") for n, c, i in instances]
    return draw_labels(overlay(read_picture(job.source), masks), labels)


def _instance_json(job: ConceptJob, number: int, index: int, instance: ConceptInstance) -> dict[str, object]:
    """One instance in the JSON form of ``--masks``."""
    assert isinstance(instance.mask, RleMask), "the command requests COCO RLE"
    box = instance.box
    return {
        "obj_id": number,
        "concept": title(job.concepts[index]),
        "score": round(instance.score, 4),
        "box": [round(value, 2) for value in (box.x0, box.y0, box.x1, box.y1)],
        "segmentation": instance.mask.to_coco(),
    }
