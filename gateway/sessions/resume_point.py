"""Where a broken stream goes on: tokens that clients keep and do not look into."""

from dataclasses import dataclass

from maskmesh.errors import InvalidRequest

FIELD = "resume_token"

# More than any session has.
MOST_FRAMES = 2**40


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """What was left of a propagation: from ``next_frame_index`` to before ``end``, in steps of ``step``.

    Of a live stream ``end`` is 0: it has none.
    """

    session_id: str
    next_frame_index: int
    end: int
    step: int = 1
    start: int = 0
    """The first frame of the propagation."""
    propagation_id: str = ""

    def __str__(self) -> str:
        numbers = f"{self.next_frame_index}.{self.end}.{self.step}.{self.start}"
        return f"{self.session_id}.{numbers}.{self.propagation_id}"

    @classmethod
    def parse(cls, token: str, *, session_id: str | None = None, field: str = FIELD) -> "ResumePoint":
        """Raises InvalidRequest for what is no token, or one of another session than ``session_id``."""
        try:
            owner, *rest = token.split(".")
            if len(rest) not in (3, 5):  # gateways of the version before gave three
                raise ValueError
            next_frame_index, end, step, start = map(int, [*rest[:3], *(rest[3:4] or "0")])
            propagation_id = rest[4] if len(rest) == 5 else ""
        except ValueError:
            raise InvalidRequest("not a token of this service", field=field) from None
        # In reverse the last frame is followed by none.
        least = 0 if step > 0 else -1
        is_a_place = least <= next_frame_index < MOST_FRAMES and -1 <= end < MOST_FRAMES
        if abs(step) != 1 or not is_a_place or not 0 <= start < MOST_FRAMES:
            raise InvalidRequest("not a token of this service", field=field)
        if session_id is not None and owner != session_id:
            raise InvalidRequest("the token belongs to another session", field=field)
        return cls(owner, next_frame_index, end, step, start, propagation_id)

    @property
    def done(self) -> range:
        """The frames of a propagation that were tracked."""
        return range(self.start, self.next_frame_index, self.step)

    @property
    def frames(self) -> range:
        """The frames of a propagation that are left."""
        return range(self.next_frame_index, self.end, self.step)
