"""Resume tokens: the point at which a broken stream resumes, in a form that is opaque to clients."""

from dataclasses import dataclass

from maskmesh.errors import InvalidRequest

FIELD = "resume_token"

# Upper limit of frame indices; no session has this many frames.
MOST_FRAMES = 2**40


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """The remaining frames of a propagation: from ``next_frame_index`` to ``end``, exclusive, by ``step``.

    A live stream has no end: ``end`` is 0.
    """

    session_id: str
    next_frame_index: int
    end: int
    step: int = 1
    start: int = 0
    """The first frame of the propagation; in a live stream, the client's number of the first frame whose
    result it has not received."""
    propagation_id: str = ""

    def __str__(self) -> str:
        numbers = f"{self.next_frame_index}.{self.end}.{self.step}.{self.start}"
        return f"{self.session_id}.{numbers}.{self.propagation_id}"

    @classmethod
    def parse(cls, token: str, *, session_id: str | None = None, field: str = FIELD) -> "ResumePoint":
        """Parse a token.  Raises InvalidRequest if it is invalid or not a token of ``session_id``."""
        try:
            owner, *fields = token.split(".")
            if len(fields) not in (3, 5):  # the previous version issued tokens with three fields
                raise ValueError
            next_frame_index, end, step, start = map(int, [*fields[:3], *(fields[3:4] or "0")])
            propagation_id = fields[4] if len(fields) == 5 else ""
        except ValueError:
            raise InvalidRequest("the resume token is invalid", field=field) from None
        # In reverse, the index after the last frame is -1.
        min_frame_index = 0 if step > 0 else -1
        is_in_range = min_frame_index <= next_frame_index < MOST_FRAMES and -1 <= end < MOST_FRAMES
        if abs(step) != 1 or not is_in_range or not 0 <= start < MOST_FRAMES:
            raise InvalidRequest("the resume token is invalid", field=field)
        if session_id is not None and owner != session_id:
            raise InvalidRequest("the token belongs to another session", field=field)
        return cls(owner, next_frame_index, end, step, start, propagation_id)

    @property
    def done(self) -> range:
        """The frames that the propagation has tracked."""
        return range(self.start, self.next_frame_index, self.step)

    @property
    def frames(self) -> range:
        """The remaining frames of the propagation."""
        return range(self.next_frame_index, self.end, self.step)
