import math
from dataclasses import replace

import numpy as np
import pytest

from maskmesh import (
    Box,
    ImageTooLarge,
    InvalidImage,
    InvalidPrompt,
    InvalidRequest,
    LowResLogits,
    MaskFormat,
    MaskOptions,
    MaskSpace,
    ObjectMask,
    PackedMask,
    PngMask,
    Point,
    PolygonMask,
    Prompt,
    RleMask,
    SessionObject,
    wire,
)
from maskmesh.embedding_key import image_digest
from maskmesh.internal.v1 import embedding_pb2
from maskmesh.masks import BINARY_FORMS
from maskmesh.media.pictures import PixelLimit
from maskmesh.types import Block, EmbeddingRef, EncodedImage, ModelInfo, RawImage, SharedBlock, TensorSpec
from maskmesh.v1 import types_pb2


@pytest.mark.parametrize("seed", range(20))
def test_masks_round_trip(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 60, 2)
    mask = random.random((height, width)) < random.random()
    rle = RleMask.encode(mask)
    back = wire.mask_from_proto(wire.mask_to_proto(rle))
    assert back == rle
    assert isinstance(back, RleMask)
    np.testing.assert_array_equal(back.decode(), mask)
    logits = random.normal(size=(height, width)).astype(np.float32)
    again = wire.mask_from_proto(wire.mask_to_proto(LowResLogits(logits)))
    assert isinstance(again, LowResLogits)
    np.testing.assert_array_equal(again.values, logits)


@pytest.mark.parametrize("counts", [b"", b"1", b"zzz", b"\xff\x00", b"0000o9999", b"o" * 9, b"P"])
def test_runs_must_fill_the_mask(counts: bytes) -> None:
    with pytest.raises(ValueError, match="do not fill"):
        RleMask(10, 10, counts).decode()


def test_prompts_round_trip() -> None:
    prompt = Prompt((Point(1.5, 2), Point(3, 4.25, False)), Box(0, 1, 20, 30))
    back = wire.prompt_from_proto(wire.prompt_to_proto(prompt), width=40, height=30, field="p")
    assert (tuple(back.points), back.box) == (prompt.points, prompt.box)


@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        (Prompt(), "p"),
        (Prompt([Point(math.inf, 1)]), "p.points[0].x"),
        (Prompt([Point(1, 1), Point(2, math.nan)]), "p.points[1].y"),
        (Prompt([Point(-1.5, 1)]), "p.points[0].x"),
        (Prompt(box=Box(5, 5, 5, 9)), "p.box"),
        (Prompt(box=Box(5, 9, 8, 31.5)), "p.box.y1"),
        (Prompt(mask=RleMask(0, 5, b"1")), "p.mask.rle"),
        (
            Prompt(mask=LowResLogits(np.full((4, 4), np.nan, np.float32))),
            "p.mask.low_res_logits.values",
        ),
    ],
)
def test_invalid_prompt_error_names_the_field(prompt: Prompt, field: str) -> None:
    with pytest.raises(InvalidPrompt) as caught:
        wire.prompt_from_proto(wire.prompt_to_proto(prompt), width=40, height=30, field="p")
    assert caught.value.field == field


def test_point_without_a_label_is_refused() -> None:
    message = types_pb2.Prompt(points=[types_pb2.Point(x=1, y=1)])
    with pytest.raises(InvalidPrompt) as caught:
        wire.prompt_from_proto(message, width=4, height=3, field="p")
    assert caught.value.field == "p.points[0].label"


def test_prompts_from_plain_values() -> None:
    assert Prompt.of(points=[(1, 2), (3, 4, 0), Point(5, 6)]).points == (
        Point(1, 2),
        Point(3, 4, False),
        Point(5, 6),
    )
    assert Prompt.of(box=(1, 2, 3, 4)).box == Box(1, 2, 3, 4)
    assert isinstance(Prompt.of(mask=np.zeros((2, 3), bool)).mask, RleMask)
    assert isinstance(Prompt.of(mask=np.zeros((2, 3), np.float32)).mask, LowResLogits)
    for wrong in ({"points": [(1,)]}, {"points": [(1, 2, 5)]}, {"box": (1, 2, 3)}):
        with pytest.raises(ValueError, match="got"):
            Prompt.of(**wrong)


def test_raw_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (4, 5, 3), np.uint8)
    message = wire.image_to_proto(RawImage(pixels))
    back = wire.image_from_proto(message, field="image", limit=PixelLimit(20))
    assert isinstance(back, RawImage)
    np.testing.assert_array_equal(back.pixels, pixels)
    with pytest.raises(ImageTooLarge):
        wire.image_from_proto(message, field="image", limit=PixelLimit(19))
    message.raw.width = 6
    with pytest.raises(InvalidImage) as caught:
        wire.image_from_proto(message, field="image", limit=PixelLimit(100))
    assert caught.value.field == "image.raw.rgb"


def test_image_digest_covers_content_and_shape() -> None:
    pixels = np.arange(24, dtype=np.uint8)
    wide, tall = RawImage(pixels.reshape(2, 4, 3)), RawImage(pixels.reshape(4, 2, 3))
    assert image_digest(wide) != image_digest(tall)
    assert image_digest(wide) == image_digest(RawImage(wide.pixels.copy()))
    assert image_digest(EncodedImage(b"x")).startswith("sha256:")


def test_other_messages_round_trip() -> None:
    ref = EmbeddingRef("sha256:1", "model", "host:1", 8, 640, 480, "tenant")
    for known in (ref, replace(ref, shared=SharedBlock("folder", Block(3, 2**40)))):
        assert wire.embedding_ref_from_proto(wire.embedding_ref_to_proto(known)) == known
    with pytest.raises(InvalidRequest) as caught:
        wire.embedding_ref_from_proto(embedding_pb2.EmbeddingRef(key="k"))
    assert caught.value.field == "embedding.model_id"
    mask = ObjectMask(-3, RleMask.encode(np.ones((2, 2), bool)), 0.5, -2.0)
    assert wire.object_mask_from_proto(wire.object_mask_to_proto(mask)) == mask
    info = ModelInfo(
        model_id="m", name="test", image_size=256, trained=False, parameters=7,
        device="cpu", dtype="float32", threads=2, warm_up_seconds=0.5,
    )  # fmt: skip
    assert wire.model_info_from_proto(wire.model_info_to_proto(info)) == info
    spec = TensorSpec("image_embedding", "bfloat16", (256, 64, 64))
    assert spec.num_bytes == 2 * 2**20
    assert wire.tensor_specs_from_proto([wire.tensor_spec_to_proto(spec)]) == [spec]


def test_objects_of_a_session_round_trip() -> None:
    objects = [
        SessionObject(1, (0, 4), None, False),
        SessionObject(1_000_001, (), 3, True),
        SessionObject(1_000_002, (7,), None, True),  # its concept was removed
    ]
    assert wire.session_objects_from_proto(wire.session_objects_to_proto(objects)) == objects


def test_only_prompts_limit_the_points_of_polygons() -> None:
    """A result may have a more ragged outline than a prompt."""
    ring = np.zeros((20_001, 2), dtype=np.float32)
    ring[:, 0] = np.arange(20_001) % 7
    message = wire.mask_to_proto(PolygonMask(9, 9, [[ring]]))
    again = wire.mask_from_proto(message)
    assert isinstance(again, PolygonMask)
    np.testing.assert_array_equal(again.polygons[0][0], ring)
    with pytest.raises(InvalidPrompt, match="20001 points, and a mask has at most 20000") as caught:
        wire.prompt_from_proto(types_pb2.Prompt(mask=message), width=9, height=9, field="prompt")
    assert caught.value.field == "prompt.mask.polygons.polygons"


def test_mask_options() -> None:
    for form in MaskFormat:
        for options in (MaskOptions(form), MaskOptions(form, MaskSpace.MODEL, non_overlapping=True)):
            assert wire.mask_options_from_proto(wire.mask_options_to_proto(options)) == options
    assert wire.mask_options_from_proto(types_pb2.MaskOptions()) == MaskOptions()
    for wrong, field in (
        (types_pb2.MaskOptions(format=99), "format"),  # type: ignore[arg-type]
        (types_pb2.MaskOptions(space=99), "space"),  # type: ignore[arg-type]
        (types_pb2.MaskOptions(format="MASK_FORMAT_LOW_RES_LOGITS", space="MASK_SPACE_IMAGE"), "space"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            wire.mask_options_from_proto(wrong)
        assert caught.value.field == f"mask_options.{field}"


@pytest.mark.parametrize("form", BINARY_FORMS.values())
def test_binary_masks_round_trip(form: type[RleMask] | type[PngMask] | type[PackedMask]) -> None:
    mask = np.random.default_rng(0).random((7, 13)) > 0.5
    message = wire.mask_to_proto(form.encode(mask))
    again = wire.mask_from_proto(message)
    assert isinstance(again, form)
    np.testing.assert_array_equal(again.decode(), mask)
