"""Objects of a session: identity and prompts."""

from dataclasses import dataclass, field

from maskmesh.errors import InvalidPrompt
from maskmesh.masks import LowResLogits
from maskmesh.types import Box, Point, Prompt
from maskmesh.wire import MAX_POINTS, check_contradiction
from tracker_svc.memory.memory_bank import MemoryBank

FIELD = "prompt"


def combine(earlier: Prompt | None, new: Prompt, *, clear_previous: bool) -> Prompt:
    """What is said of one object on one frame after a further prompt.

    Points add up; a box comes before any points or with them; a mask replaces points and box, and the
    other way round.  Raises InvalidPrompt where the two contradict one another.
    """
    if isinstance(new.mask, LowResLogits):
        raise InvalidPrompt("in a session a mask is a binary mask", field=f"{FIELD}.mask")
    if new.mask is not None:
        if new.points or new.box is not None:
            raise InvalidPrompt("a mask stands alone in a session", field=f"{FIELD}.mask")
        return new
    if earlier is None or clear_previous or earlier.mask is not None:
        return new
    if new.box is not None:
        raise InvalidPrompt(
            "a box comes before points or with them; clear_previous starts over",
            field=f"{FIELD}.box",
        )
    points = [*earlier.points, *new.points]
    if len(points) > MAX_POINTS:
        raise InvalidPrompt(f"at most {MAX_POINTS} points are allowed in all", field=f"{FIELD}.points")
    check_contradiction(points, field=FIELD)
    return Prompt(points, earlier.box)


def check_mask_size(prompt: Prompt, *, width: int, height: int) -> None:
    """Raises InvalidPrompt where a mask does not have the size of its frame, or cannot be read."""
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
        raise InvalidPrompt(f"the mask cannot be read: {error}", field=f"{FIELD}.mask") from error


def check_logits_size(prompt: Prompt, *, size: int, field: str) -> None:
    """Raises InvalidPrompt where a prompt on an image has a mask that is not logits of the model's size."""
    if prompt.mask is None:
        return
    if not isinstance(prompt.mask, LowResLogits):
        raise InvalidPrompt("on an image a mask is low-resolution logits", field=f"{field}.mask")
    if prompt.mask.values.shape != (size, size):
        raise InvalidPrompt(
            f"logits are {size} x {size}, as the model returns them",
            field=f"{field}.mask.low_res_logits",
        )


def as_points(prompt: Prompt) -> list[tuple[float, float, int]]:
    """Points and box as x, y and the model's label, the box first."""
    points: list[tuple[float, float, int]] = []
    if prompt.box is not None:
        box: Box = prompt.box
        points += [(box.x0, box.y0, 2), (box.x1, box.y1, 3)]
    labelled: list[Point] = list(prompt.points)
    return points + [(p.x, p.y, int(p.positive)) for p in labelled]


@dataclass(slots=True)
class TrackedObject:
    """One object.

    ``obj_id`` is the client's and never changes meaning; where the object stands in a batch is decided
    anew for every frame and is nobody else's concern.
    """

    obj_id: int
    bank: MemoryBank = field(default_factory=MemoryBank)
    prompts: dict[int, Prompt] = field(default_factory=dict)
    """All that was said of the object, by frame index."""
