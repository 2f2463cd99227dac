"""Inpainting models in the interfaces in which they are published."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.erase.model_fill import ModelFiller

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SIDE = 64


def model(path: Path, nodes: list[Any], inputs: dict[str, tuple[int, list[Any]]], kind: int) -> Path:
    """Write a model whose nodes end with "output"."""
    helper = onnx.helper
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, *value) for name, value in inputs.items()],
        [helper.make_tensor_value_info("output", kind, [1, 3, "h", "w"])],
        [
            helper.make_tensor("scale", onnx.TensorProto.FLOAT, [], [255.0]),
            helper.make_tensor("red", onnx.TensorProto.FLOAT, [1, 3, 1, 1], [1.0, 0.0, 0.0]),
            helper.make_tensor("starts", onnx.TensorProto.INT64, [1], [0]),
            helper.make_tensor("middle", onnx.TensorProto.INT64, [1], [3]),
            helper.make_tensor("ends", onnx.TensorProto.INT64, [1], [4]),
            helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1]),
            helper.make_tensor("half", onnx.TensorProto.FLOAT, [], [0.5]),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made)
    onnx.save(made, str(path))
    return path


def with_two_inputs(path: Path, *, levels: bool, side: object) -> Path:
    """Unknown parts become red: mask * red + (1 - mask) * image."""
    make, kind = onnx.helper.make_node, onnx.TensorProto.FLOAT
    last = "mixed" if levels else "output"
    nodes = [
        make("Greater", ["mask", "half"], ["unknown"]),
        make("Where", ["unknown", "red", "image"], [last]),
        *([make("Mul", ["mixed", "scale"], ["output"])] if levels else []),
    ]
    inputs = {"image": (kind, [1, 3, side, side]), "mask": (kind, [1, 1, side, side])}
    return model(path, nodes, inputs, kind)


def of_bytes(path: Path) -> Path:
    """The same with bytes, and a mask of what is known."""
    make, kind, byte = onnx.helper.make_node, onnx.TensorProto, onnx.TensorProto.UINT8
    nodes = [
        make("Cast", ["mask"], ["mask_float"], to=kind.FLOAT),
        make("Cast", ["image"], ["image_float"], to=kind.FLOAT),
        make("Greater", ["mask_float", "half"], ["known"]),
        make("Mul", ["red", "scale"], ["red_levels"]),
        make("Where", ["known", "image_float", "red_levels"], ["mixed"]),
        make("Cast", ["mixed"], ["output"], to=byte),
    ]
    inputs = {"image": (byte, ["b", 3, "h", "w"]), "mask": (byte, ["b", 1, "h", "w"])}
    return model(path, nodes, inputs, byte)


def with_four_channels(path: Path) -> Path:
    make, kind = onnx.helper.make_node, onnx.TensorProto.FLOAT
    nodes = [
        make("Slice", ["input", "starts", "middle", "axes"], ["image"]),
        make("Slice", ["input", "middle", "ends", "axes"], ["mask"]),
        make("Greater", ["mask", "half"], ["unknown"]),
        make("Where", ["unknown", "red", "image"], ["output"]),
    ]
    return model(path, nodes, {"input": (kind, [1, 4, SIDE, SIDE])}, kind)


@pytest.mark.parametrize("form", ["shares", "levels", "any size", "bytes", "four channels"])
def test_the_unknown_part_is_the_model_s(tmp_path: Path, form: str) -> None:
    path = tmp_path / "model.onnx"
    match form:
        case "bytes":
            of_bytes(path)
        case "four channels":
            with_four_channels(path)
        case _:
            with_two_inputs(path, levels=form == "levels", side="n" if form == "any size" else SIDE)
    pixels = np.full((120, 200, 3), 90, np.uint8)
    unknown = np.zeros((120, 200), np.bool_)
    unknown[40:60, 80:110] = True
    filled = ModelFiller(path).fill(pixels, unknown)
    assert np.array_equal(filled[~unknown], pixels[~unknown])
    inner = filled[45:55, 85:105].reshape(-1, 3).mean(axis=0)
    assert inner.tolist() == pytest.approx([255, 0, 0], abs=3)


def test_what_is_no_inpainting_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match="no ONNX model that can be used"):
        ModelFiller(path)
    kind = onnx.TensorProto.FLOAT
    nodes = [onnx.helper.make_node("Identity", ["image"], ["output"])]
    model(path, nodes, {"image": (kind, [1, 3, 8, 8])}, kind)
    with pytest.raises(ValueError, match="not an image of 3 channels and a mask of 1"):
        ModelFiller(path)
