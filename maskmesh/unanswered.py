"""What a client has sent on a live stream and has no answer to yet."""

from maskmesh.v1 import segmentation_pb2

Request = segmentation_pb2.SegmentStreamRequest


class Unanswered:
    """Messages in the order in which they were sent; used on one event loop only.

    A frame is answered by a result of its own or of a later one, a prompt or removal by its request's id.
    How many there are is bounded by what is under way: a sender waits for the other end.
    """

    def __init__(self) -> None:
        self._requests: list[Request] = []

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: Request) -> None:
        """A message is sent."""
        self._requests.append(request)

    def remove(self, request: Request) -> None:
        """A message was not sent after all."""
        self._requests = [r for r in self._requests if r is not request]

    def came_to(self, sequence: int) -> None:
        """The result of a frame came."""
        self._requests = [r for r in self._requests if not (_is_frame(r) and r.frame.sequence <= sequence)]

    def refused(self, sequence: int) -> None:
        """A frame cannot be used."""
        self._requests = [r for r in self._requests if not (_is_frame(r) and r.frame.sequence == sequence)]

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
