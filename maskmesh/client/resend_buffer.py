"""What a client has sent on a live stream and has no answer to yet."""

from maskmesh.v1 import segmentation_pb2

Request = segmentation_pb2.SegmentStreamRequest


class ResendBuffer:
    """Messages in the order in which they were sent; used on one event loop only.

    A frame is answered by a result of its own or of a later one, a prompt or removal by its request's id.
    At most ``max_frames`` frames are kept, the newest.
    """

    def __init__(self, max_frames: int) -> None:
        self._max_frames = max_frames
        self._requests: list[Request] = []

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: Request) -> None:
        """A message is sent."""
        self._requests.append(request)
        if _is_frame(request):
            frames = [r for r in self._requests if _is_frame(r)]
            for oldest in frames[: max(len(frames) - self._max_frames, 0)]:
                self.remove(oldest)

    def has(self, request: Request) -> bool:
        """Whether a message will be sent again."""
        return any(r is request for r in self._requests)

    @property
    def first_frame(self) -> int | None:
        """The number of the oldest frame, None where there is none."""
        return next((r.frame.sequence for r in self._requests if _is_frame(r)), None)

    def remove(self, request: Request) -> None:
        """A message was not sent after all."""
        self._requests = [r for r in self._requests if r is not request]

    def acknowledge(self, sequence: int) -> None:
        """The result of a frame came."""
        self._requests = [r for r in self._requests if not (_is_frame(r) and r.frame.sequence <= sequence)]

    def answered(self, request_id: str) -> None:
        """A prompt or a removal was answered."""
        self._requests = [
            r for r in self._requests if request_id not in (r.prompt.request_id, r.removal.request_id)
        ]

    def since(self, next_sequence: int) -> list[Request]:
        """What is to be sent again to a server that has the frames before ``next_sequence``."""
        return [r for r in self._requests if not (_is_frame(r) and r.frame.sequence < next_sequence)]


def _is_frame(request: Request) -> bool:
    return bool(request.WhichOneof("content") == "frame")
