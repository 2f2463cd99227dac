"""Invalid calls of SegmentImage."""

from collections.abc import Sequence

from maskmesh import (
    InvalidImage,
    InvalidPrompt,
    InvalidRequest,
)
from maskmesh.v1 import types_pb2
from tests.e2e.bad_inputs import (
    BAD_IMAGES,
    BAD_OPTIONS,
    BAD_PROMPTS,
    CLICK,
    CUT_OFF,
    HEIGHT,
    NAN,
    WIDTH,
    logits,
    rle,
)
from tests.e2e.error_case import Case
from tests.e2e.wrong_calls import (
    V1,
    on_image,
    segment_everything,
    segment_image,
)

IMAGE_CASES: Sequence[Case] = (
    *(
        Case("SegmentImage", what, segment_image(image=bad, prompts=on_image(CLICK)), error, f"image{where}")
        for what, bad, error, where in BAD_IMAGES
    ),
    Case(
        "SegmentImage",
        "a truncated image",
        segment_image(image=types_pb2.Image(encoded=CUT_OFF), prompts=on_image(CLICK)),
        InvalidImage,
        "image",
    ),
    *(
        Case(
            "SegmentImage",
            what,
            segment_image(prompts=on_image(bad)),
            InvalidPrompt,
            f"prompts[0].prompt{where}",
        )
        for what, bad, where in BAD_PROMPTS
    ),
    Case("SegmentImage", "no prompts", segment_image(), InvalidPrompt, "prompts"),
    Case(
        "SegmentImage", "65 prompts", segment_image(prompts=on_image(*[CLICK] * 65)), InvalidPrompt, "prompts"
    ),
    Case(
        "SegmentImage",
        "one object twice",
        segment_image(prompts=[V1.ObjectPrompt(obj_id=3, prompt=CLICK)] * 2),
        InvalidPrompt,
        "prompts[1].obj_id",
    ),
    Case(
        "SegmentImage",
        "a binary mask",
        segment_image(prompts=on_image(rle(HEIGHT, WIDTH))),
        InvalidPrompt,
        "prompts[0].prompt.mask",
    ),
    Case(
        "SegmentImage",
        "logits of another size",
        segment_image(prompts=on_image(logits(8))),
        InvalidPrompt,
        "prompts[0].prompt.mask.low_res_logits",
    ),
    Case(
        "SegmentImage",
        "logits that are not numbers",
        segment_image(prompts=on_image(logits(64, NAN))),
        InvalidPrompt,
        "prompts[0].prompt.mask.low_res_logits.values",
    ),
    Case(
        "SegmentImage",
        "logits with bytes missing",
        segment_image(prompts=on_image(logits(64, 1.0, 100))),
        InvalidPrompt,
        "prompts[0].prompt.mask.low_res_logits.values",
    ),
    *(
        Case(
            "SegmentImage",
            what,
            segment_image(prompts=on_image(CLICK), mask_options=bad),
            InvalidRequest,
            f"mask_options{where}",
        )
        for what, bad, where in BAD_OPTIONS
    ),
    Case(
        "SegmentImage",
        "alternatives that must not overlap",
        segment_image(
            prompts=on_image(CLICK),
            multimask_output=True,
            mask_options=types_pb2.MaskOptions(non_overlapping=True),
        ),
        InvalidRequest,
        "mask_options.non_overlapping",
    ),
    Case(
        "SegmentEverything",
        "masks that must not overlap",
        segment_everything(mask_options=types_pb2.MaskOptions(non_overlapping=True)),
        InvalidRequest,
        "mask_options.non_overlapping",
    ),
    *(
        Case("SegmentEverything", what, segment_everything(image=bad), error, f"image{where}")
        for what, bad, error, where in BAD_IMAGES
    ),
    *(
        Case(
            "SegmentEverything",
            what,
            segment_everything(mask_options=bad),
            InvalidRequest,
            f"mask_options{where}",
        )
        for what, bad, where in BAD_OPTIONS
    ),
    *(
        Case(
            "SegmentEverything",
            f"{name} out of range",
            segment_everything(options=types_pb2.EverythingOptions(**{name: value})),  # type: ignore[arg-type]
            InvalidRequest,
            f"options.{name}",
        )
        for name, value in (
            ("points_per_side", 65),
            ("crop_layers", 4),
            ("min_predicted_iou", 1.5),
            ("min_stability", -0.1),
            ("max_box_iou", NAN),
        )
    ),
    Case(
        "SegmentEverything",
        "parts of the image and masks of the model's size",
        segment_everything(
            options=types_pb2.EverythingOptions(crop_layers=1),
            mask_options=types_pb2.MaskOptions(space="MASK_SPACE_MODEL"),
        ),
        InvalidRequest,
        "mask_options.space",
    ),
)
