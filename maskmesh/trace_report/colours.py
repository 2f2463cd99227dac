"""One colour for each named span, in every chart."""

from maskmesh import telemetry

COLOURS = {
    telemetry.DECODE_IMAGE: "#4e79a7",
    telemetry.MOTION_GATE: "#d37295",
    telemetry.PREPROCESS: "#76b7b2",
    telemetry.IMAGE_ENCODER: "#f28e2b",
    telemetry.FETCH_EMBEDDING: "#9c755f",
    telemetry.MEMORY_ATTENTION: "#e15759",
    telemetry.PROMPT_ENCODER: "#edc948",
    telemetry.MASK_DECODER: "#59a14f",
    telemetry.MEMORY_ENCODER: "#b07aa1",
    telemetry.POSTPROCESS: "#ff9da7",
    telemetry.ARCHIVE: "#86bcb6",
    **dict.fromkeys(telemetry.SAM3_STAGES, "#8cd17d"),
    **dict.fromkeys((*telemetry.TAPIR_STAGES, telemetry.OPTICAL_FLOW), "#499894"),
    **dict.fromkeys(telemetry.ERASE_STAGES, "#b6992d"),
    **dict.fromkeys(telemetry.HANDLING, "#bab0ac"),
    telemetry.QUEUE: "#d9d9d9",
    telemetry.TRANSFER: "#a0a0a0",
}

OTHER_COLOUR = "#eeeeee"
"""Of spans that only group others."""


def colour_of(span_name: str) -> str:
    """The colour of a span by its name."""
    return COLOURS.get(telemetry.base_name(span_name), OTHER_COLOUR)
