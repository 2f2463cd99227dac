"""Rules for the prompts of objects: combination with earlier prompts, size of masks, and revision."""

from typing import Any, TypeVar

from google.protobuf.message import Message

from maskmesh.errors import InvalidPrompt
from maskmesh.masks import LowResLogits
from maskmesh.types import Prompt
from maskmesh.wire import MAX_POINTS, check_contradiction

FIELD = "prompt"

M = TypeVar("M", bound=Message)


def combine(earlier: Prompt | None, new: Prompt, *, clear_previous: bool) -> Prompt:
    """Combine a new prompt with the earlier prompt of the object on the frame.

    Points are added to earlier points.  A box must be sent before the first points or with them.  A mask
    replaces points and box, and points or a box replace a mask.  Raises InvalidPrompt if the prompts
    contradict each other.
    """
    if isinstance(new.mask, LowResLogits):
        raise InvalidPrompt("in a session, a mask prompt must be a binary mask", field=f"{FIELD}.mask")
    if new.mask is not None:
        if new.points or new.box is not None:
            raise InvalidPrompt("in a session, a mask excludes points and a box", field=f"{FIELD}.mask")
        return new
    if earlier is None or clear_previous or earlier.mask is not None:
        return new
    if new.box is not None:
        raise InvalidPrompt(
            "a box must be sent before points or with them; clear_previous removes earlier prompts",
            field=f"{FIELD}.box",
        )
    points = [*earlier.points, *new.points]
    if len(points) > MAX_POINTS:
        raise InvalidPrompt(f"at most {MAX_POINTS} points are allowed in total", field=f"{FIELD}.points")
    check_contradiction(points, field=FIELD)
    return Prompt(points, earlier.box)


def check_mask_size(prompt: Prompt, *, width: int, height: int) -> None:
    """Raises InvalidPrompt if a mask does not have the size of its frame, or cannot be decoded."""
    if prompt.mask is None or isinstance(prompt.mask, LowResLogits):
        return
    if (prompt.mask.height, prompt.mask.width) != (height, width):
        raise InvalidPrompt(
            f"the mask is {prompt.mask.width} x {prompt.mask.height}, the frame {width} x {height}",
            field=f"{FIELD}.mask",
        )
    try:
        prompt.mask.decode()
    except ValueError as error:
        raise InvalidPrompt(f"the mask cannot be decoded: {error}", field=f"{FIELD}.mask") from error


def check_logits_size(prompt: Prompt, *, size: int, field: str) -> None:
    """Raises InvalidPrompt if the mask of a prompt on a single image is not logits of the model's size."""
    if prompt.mask is None:
        return
    if not isinstance(prompt.mask, LowResLogits):
        raise InvalidPrompt(
            "on a single image, a mask prompt must be low-resolution logits", field=f"{field}.mask"
        )
    if prompt.mask.values.shape != (size, size):
        raise InvalidPrompt(
            f"the logits must be {size} x {size}, as returned by the model",
            field=f"{field}.mask.low_res_logits",
        )


def expected_revision(request: Any) -> int | None:
    """The revision that a caller expects, None for any."""
    return request.expected_revision if request.HasField("expected_revision") else None


def without_routing(request: M) -> M:
    """A request without the fields that may differ when it is retried: embedding and epoch."""
    stripped = type(request)()
    stripped.CopyFrom(request)
    for field in ("embedding", "epoch"):
        if field in stripped.DESCRIPTOR.fields_by_name:
            stripped.ClearField(field)
    return stripped
