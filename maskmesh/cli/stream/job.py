"""The arguments of ``maskmesh stream``, and what can be checked before a mesh is started."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from maskmesh.cli.media.live_source import source_files
from maskmesh.cli.media.outputs import check_outputs, check_suffix
from maskmesh.cli.prompt_options import FrameConcept, PromptsByObject
from maskmesh.cli.records.options import RecordOptions
from maskmesh.client.live.overload import Overload
from maskmesh.concepts import ConceptOptions
from maskmesh.points import MotionOptions, PointGrid


@dataclass(frozen=True, slots=True)
class StreamJob:
    """Arguments of one run of the command."""

    source: str
    prompts: PromptsByObject
    concepts: Sequence[FrameConcept]
    concept_options: ConceptOptions
    max_frames: int
    overload: Overload | None
    """What happens to frames that come too fast; None skips those of cameras and URLs only."""
    motion_gate: float | None
    """The threshold of the motion gate in grey levels, None for no gate."""
    paced: bool
    max_silence: float
    """Seconds without a frame after which the command ends."""
    commands: str | None
    """File or pipe of commands, ``-`` for standard input; None takes what is typed in a terminal."""
    output: Path | None
    masks: Path | None
    grid: tuple[int, int] | None
    """Rows and columns of points to follow."""
    inside_object: int | None
    """The object in whose mask the grid lies; None for the whole frame."""
    tracks: Path | None
    motion: Path | None
    motion_options: MotionOptions | None
    records: RecordOptions

    @property
    def grid_frame(self) -> int:
        """The frame on which the grid's points are chosen."""
        frames = [frame for obj_id, frame in self.prompts if obj_id == self.inside_object]
        return min(frames, default=0)

    @property
    def point_grid(self) -> PointGrid | None:
        """The grid of points to follow."""
        if self.grid is None:
            return None
        return PointGrid(*self.grid, obj_id=self.inside_object)


def check_job(job: StreamJob) -> None:
    """Check all that can be checked before a mesh is started.  Raises UsageError."""
    named = [frame for _, frame in job.prompts] + [concept.frame for concept in job.concepts]
    late = [frame for frame in named if job.max_frames and frame >= job.max_frames]
    if late:
        raise click.UsageError(f"--frame {late[0]} is not among the first {job.max_frames}")
    if job.inside_object is not None and job.inside_object not in {obj_id for obj_id, _ in job.prompts}:
        raise click.UsageError(f"--inside-object {job.inside_object} has no --point and no --box")
    if job.commands not in (None, "-") and not Path(str(job.commands)).exists():
        raise click.UsageError(f"--commands: there is no file {job.commands}")
    inputs = source_files(job.source)
    if inputs == []:
        raise click.UsageError(f"there is no file {job.source}")
    outputs = {"--output": job.output, "--masks": job.masks, "--tracks": job.tracks, "--motion": job.motion}
    check_outputs(inputs or [], outputs)
    check_suffix("--output", job.output, is_video=True)
