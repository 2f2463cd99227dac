"""What SAM 3 costs on this machine: each stage, and the trunk against the floor of matrix products.

    python -m tools.sam3_cost [--turns 3] [--threads 2] [--transformers]

Runs the full model with random weights at 1008 x 1008 in bfloat16, in one process, and prints medians.  The
floor is the trunk's arithmetic at the rate of the machine's matrix products, measured between the turns.
With --transformers, the image model of transformers takes turns with ours: words, one image.  Nothing else
should run; about 8 GiB of memory are needed.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import click
import torch
from torch import nn

from encoder_svc.model import config as encoder_config
from encoder_svc.model import weights as encoder_weights
from maskmesh.concepts import Concept
from maskmesh.scheduling.process_usage import processor
from maskmesh.telemetry import StageRecorder, stage_seconds
from tracker_svc.compute.concepts import ConceptFinder
from tracker_svc.compute.step import Frame
from tracker_svc.compute.tokenizer import PhraseTokenizer
from tracker_svc.model import config as tracker_config
from tracker_svc.model.tracking_model import TrackingModel

PRESET = "sam3"
SIZE = 1008
# Multiplications and additions of the trunk for one image, counted from its shapes.
TRUNK_FLOP = 5.399e12

# A product of the shape that most of the trunk's work has: tokens, channels, hidden channels.
PRODUCT = (5184, 1024, 4736)
PRODUCTS = 20


def materialize(model: nn.Module, seed: int) -> nn.Module:
    """Give a model on the meta device small random weights in bfloat16."""
    model.to_empty(device="cpu").to(torch.bfloat16).eval().requires_grad_(False)
    random = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.02)
    return model


def product_rate() -> float:
    """The median rate of a large matrix product in FLOP per second."""
    tokens, channels, hidden = PRODUCT
    x = torch.randn(tokens, channels, dtype=torch.bfloat16)
    weight = torch.randn(hidden, channels, dtype=torch.bfloat16)
    seconds = [timed(lambda: nn.functional.linear(x, weight)) for _ in range(PRODUCTS)]
    return 2 * tokens * channels * hidden / statistics.median(seconds)


def timed(work: Callable[[], object]) -> float:
    """The seconds that ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def reference_model() -> Callable[[], object]:
    """The image model of transformers with random weights, and one phrase of four tokens."""
    from transformers import Sam3Config, Sam3Model

    model = Sam3Model._from_config(Sam3Config(), dtype=torch.bfloat16).eval()
    image = torch.randn(1, 3, SIZE, SIZE, dtype=torch.bfloat16)
    words = torch.tensor([[49406, 4481, 1228, 49407]])
    mask = torch.ones_like(words)
    return lambda: model(pixel_values=image, input_ids=words, attention_mask=mask)


@click.command()
@click.option("--turns", default=3, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--transformers", "with_reference", is_flag=True, help="Take turns with transformers.")
@torch.inference_mode()
def main(turns: int, threads: int, with_reference: bool) -> None:
    """Measure and print."""
    torch.set_num_threads(threads)
    with torch.device("meta"):
        encoder = encoder_weights.make_model(encoder_config.PRESETS[PRESET])
        tracker = TrackingModel(tracker_config.PRESETS[PRESET])
    materialize(encoder, 0)
    materialize(tracker, 1)
    assert tracker.detector is not None
    finder = ConceptFinder(tracker.detector, PhraseTokenizer.of_bytes(context_length=32))
    image = torch.randn(1, 3, SIZE, SIZE, dtype=torch.bfloat16)
    reference = reference_model() if with_reference else None

    def detect() -> None:
        embedding = encoder(image)
        recorder = StageRecorder()
        concept, frame = Concept("bus"), Frame(embedding, SIZE, SIZE)
        list(finder.detect(frame, [concept], threshold=0, max_instances=5, recorder=recorder))
        for stage, seconds in stage_seconds(recorder.records).items():
            stages[stage].append(seconds)

    stages: dict[str, list[float]] = defaultdict(list)
    detect()
    stages.clear()
    trunk, whole, rates, others = [], [], [], []
    for _ in range(turns):
        rates.append(product_rate())
        trunk.append(timed(lambda: encoder(image)))
        whole.append(timed(detect))
        if reference is not None:
            others.append(timed(reference))
    rate = statistics.median(rates)
    floor = TRUNK_FLOP / rate
    print(f"{processor()}, {threads} threads, medians of {turns} turns")
    print(f"matrix products: {rate / 1e9:.0f} GFLOP/s, so the trunk takes {floor:.2f} s at least")
    print(f"trunk: {statistics.median(trunk):.2f} s, {statistics.median(trunk) / floor:.2f} times the floor")
    for stage, seconds in stages.items():
        print(f"{stage}: {statistics.median(seconds):.2f} s")
    print(f"trunk and one concept: {statistics.median(whole):.2f} s")
    if others:
        ratio = statistics.median(o / w for o, w in zip(others, whole, strict=True))
        print(f"transformers: {statistics.median(others):.2f} s, {ratio:.2f} times ours")


if __name__ == "__main__":
    main()
