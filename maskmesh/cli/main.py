"""The command ``maskmesh``: start a mesh, segment images and videos, evaluate masks, report on traces."""

import json
from pathlib import Path
from typing import Any

import click

from maskmesh.cli.api_key import key
from maskmesh.cli.batch.command import batch
from maskmesh.cli.bench import BenchOptions, bench
from maskmesh.cli.bench_streams import bench_streams
from maskmesh.cli.media.outputs import check_outputs
from maskmesh.cli.mesh.gateway_options import Gateway, gateway_options, with_gateway
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.cli.mesh.mesh_options import mesh_options
from maskmesh.cli.prompt_options import ConceptCommand, FrameConcept, PromptsByObject
from maskmesh.cli.run import Commands, run, verbose_option
from maskmesh.cli.segment import Job, check_job, segment
from maskmesh.cli.segment_concepts import ConceptJob, segment_concepts
from maskmesh.cli.stream import StreamJob, stream_source
from maskmesh.cli.stream import check_job as check_stream
from maskmesh.cli.up import up
from maskmesh.client.async_client import AsyncClient
from maskmesh.concepts import ConceptOptions
from maskmesh.trace_report.report import choose_frame, make_report
from maskmesh.trace_report.table import print_report
from maskmesh.trace_report.trace_files import trace_files
from maskmesh.version import __version__

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)
_COUNT = click.IntRange(1, 64)
_FRAMES = click.IntRange(min=0)
_DRAWN = (".png", ".svg", ".pdf", ".jpg")


class _Source(click.Path):
    """A file or folder that exists."""

    def __init__(self) -> None:
        super().__init__(exists=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns a path.  Raises BadParameter if it does not exist, or is a URL."""
        if isinstance(value, str) and "://" in value:
            self.fail(f"{value} is no file: for cameras and URLs use maskmesh stream", param, ctx)
        return super().convert(value, param, ctx)


@click.group(cls=Commands)
@click.version_option(__version__)
def main() -> None:
    """Promptable image and video segmentation over gRPC, with a trace for every frame."""


main.add_command(batch)
main.add_command(key)
main.add_command(up)


@main.command(name="segment", cls=ConceptCommand)
@click.argument("source", type=_Source())
@mesh_options
@gateway_options
@click.option("--max-frames", type=_FRAMES, default=0, help="Largest number of frames; 0 means all.")
@click.option("--multimask", is_flag=True, help="Three alternative masks for each object (images only).")
@click.option("-o", "--output", type=_FILE, help="File for the overlay.")
@click.option("--masks", type=_FILE, help="File for the masks (COCO RLE).")
@click.option(
    "--truth",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of true masks in the format of --masks, to compare with (videos only).",
)
@verbose_option
def segment_command(
    *,
    source: Path,
    prompts: PromptsByObject,
    concepts: list[FrameConcept],
    concept_options: ConceptOptions,
    gateway: Gateway,
    max_frames: int,
    multimask: bool,
    output: Path | None,
    masks: Path | None,
    truth: Path | None,
    **options: Any,
) -> None:
    """Segment a video, an image, or a folder of images that are the frames of a video.

    Each prompt belongs to the --object and --frame before it (by default object 1 and frame 0):

        maskmesh segment clip.mp4 --point 480,270 --object 2 --frame 10 --box 100,80,300,240 -o out.mp4

    With SAM 3, concepts find all objects of a kind, by words, by boxes around examples, or both, and follow
    them through a video:

        maskmesh segment clip.mp4 --model sam3 --checkpoint sam3.pt --concept "yellow school bus" -o out.mp4
    """
    if not prompts and not concepts:
        raise click.UsageError("at least one --point, --box or --concept is needed")
    job = Job(source, prompts, max_frames, multimask, output, masks, truth, concepts, concept_options)
    check_job(job)
    concept_job = ConceptJob(source, concepts, concept_options.score_threshold, output, masks)

    async def work(client: AsyncClient) -> None:
        if concepts and not job.is_video:
            await segment_concepts(concept_job, client)
        else:
            await segment(job, client)

    run(with_gateway(work, gateway, MeshOptions(**options)), trace="segment")


@main.command(name="stream", cls=ConceptCommand, is_live=True)
@click.argument("source")
@mesh_options
@gateway_options
@click.option("--max-frames", type=_FRAMES, default=0, help="Largest number of frames to send; 0 means all.")
@click.option(
    "--skip/--wait",
    default=None,
    help="Skip frames that come too fast, or wait; by default only frames of cameras and URLs are skipped.",
)
@click.option("--paced", is_flag=True, help="Send the frames of a file at its frame rate.")
@click.option(
    "--silence",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds without a frame after which the command ends.",
)
@click.option("-o", "--output", type=_FILE, help="File for the overlay.")
@click.option("--masks", type=_FILE, help="File for the masks (JSON lines, COCO RLE).")
@verbose_option
def stream_command(
    *,
    source: str,
    prompts: PromptsByObject,
    concepts: list[FrameConcept],
    concept_options: ConceptOptions,
    gateway: Gateway,
    max_frames: int,
    skip: bool | None,
    paced: bool,
    silence: float,
    output: Path | None,
    masks: Path | None,
    **options: Any,
) -> None:
    """Track objects through live video.

    SOURCE is a file, pictures (frames/%05d.jpg), a camera (/dev/video0) or a URL (rtsp://...).  Each
    prompt belongs to the --object and --frame before it, as in segment; sent frames are numbered from 0:

        maskmesh stream rtsp://camera/1 --point 480,270 --object 2 --frame 100 --box 100,80,300,240
    """
    if not prompts and not concepts:
        raise click.UsageError("at least one --point, --box or --concept is needed")
    job = StreamJob(
        source, prompts, concepts, concept_options, max_frames, skip, paced, silence, output, masks
    )
    check_stream(job)
    mesh = MeshOptions(**options)
    run(stream_source(job, lambda work: with_gateway(work, gateway, mesh)), trace="stream")


@main.command()
@click.argument("traces", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="waterfall.png",
    show_default=True,
    help="File for the waterfall.",
)
@click.option("--frame", type=int, help="Frame of the waterfall; by default one of median latency.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@verbose_option
def report(traces: Path, output: Path, frame: int | None, *, as_json: bool) -> None:
    """Report latencies from traces: a table of stages, and the waterfall of one frame.

    TRACES is a folder of trace files, or one trace file.
    """
    # Imported here, because matplotlib is slow to import and only this command draws.
    from maskmesh.trace_report.waterfall import draw_waterfall

    check_outputs(trace_files(traces), {"--output": output})
    if output.suffix.lower() not in _DRAWN:
        raise click.UsageError(f"--output {output}: a drawing has one of the suffixes {', '.join(_DRAWN)}")
    latency_report = make_report(traces)
    draw_waterfall(choose_frame(latency_report, frame), output)
    if as_json:
        click.echo(json.dumps(latency_report.to_json(), indent=2))
    else:
        print_report(latency_report)
        click.echo(f"waterfall: {output}")


@main.command()
@click.option("--images", type=_FOLDER, required=True, help="Folder of images, or of the frames of a clip.")
@click.option("--masks", type=_FOLDER, required=True, help="Folder of true masks with the same names.")
@click.option("--concept", default="", help="Phrase that prompts instead of clicks and boxes (SAM 3).")
@click.option("--video", is_flag=True, help="The images are the frames of one clip, in order of their names.")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for scores."
)
@gateway_options
@mesh_options
@verbose_option
def evaluate(
    *,
    images: Path,
    masks: Path,
    concept: str,
    video: bool,
    json_path: Path | None,
    gateway: Gateway,
    **options: Any,
) -> None:
    """Compare masks with true ones: IoU of images from a click and a box, J and F of a clip from a click.

    With --concept, the objects that a phrase finds are matched with the true ones: IoU, precision and recall.

    The pixels of a true mask with a palette are object numbers, as in DAVIS; any other mask is one object.
    """
    check_outputs([*images.iterdir(), *masks.iterdir()], {"--json": json_path})
    try:
        # Imported here, because only this command needs SciPy, which is an extra.
        from maskmesh.cli.evaluate import evaluate_folder
    except ImportError as error:
        raise click.ClickException(f"{error}; pip install 'maskmesh[evaluate]'") from error

    run(
        with_gateway(
            lambda client: evaluate_folder(
                client, images, masks, video=video, concept=concept, json_path=json_path
            ),
            gateway,
            MeshOptions(**options),
        )
    )


@main.command(name="bench")
@click.option(
    "--frames",
    type=click.IntRange(8),
    default=32,
    show_default=True,
    help="Frames of each session after the warm-up.",
)
@click.option(
    "--objects",
    type=click.IntRange(1, 4),
    default=1,
    show_default=True,
    help="Number of objects in each session.",
)
@click.option(
    "--sessions",
    type=click.IntRange(1),
    multiple=True,
    default=(1, 2, 4, 8),
    show_default=True,
    help="Number of concurrent sessions; may be repeated.",
)
@click.option(
    "--streams",
    is_flag=True,
    help="Find the largest number of live 1080p streams of 30 frames/s instead.",
)
@click.option("--json", "json_path", type=_FILE, help="JSON file for the results.")
@gateway_options
@mesh_options
@verbose_option
def bench_command(
    *,
    frames: int,
    objects: int,
    sessions: tuple[int, ...],
    streams: bool,
    json_path: Path | None,
    gateway: Gateway,
    **options: Any,
) -> None:
    """Measure the latency of clicks and of one session, and the throughput of several concurrent sessions.

    Run nothing else on the machine meanwhile.
    """
    check_outputs([], {"--json": json_path})
    bench_options = BenchOptions(frames, objects, sessions)

    async def work(client: AsyncClient) -> None:
        await (bench_streams(client, json_path) if streams else bench(client, bench_options, json_path))

    run(with_gateway(work, gateway, MeshOptions(**options)))
