"""The messages of a live stream that the server has not acknowledged."""

from collections import OrderedDict

from maskmesh.v1 import segmentation_pb2

Request = segmentation_pb2.SegmentStreamRequest

# The messages that have a request id.
_COMMANDS = ("prompt", "removal", "concept", "concept_removal", "points", "points_removal")


class ResendBuffer:
    """Messages in the order in which they were sent.  Used on one event loop only.

    A frame is acknowledged by its own result or that of a later frame, another message by its request id.
    At most ``max_frames`` frames are kept, the newest.
    """

    def __init__(self, max_frames: int) -> None:
        self._max_frames = max_frames
        self._requests: OrderedDict[int, Request] = OrderedDict()  # by identity
        self._frames: OrderedDict[int, Request] = OrderedDict()

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, request: Request) -> bool:
        return id(request) in self._requests

    def add(self, request: Request) -> None:
        """Add a message that is being sent."""
        self._requests[id(request)] = request
        if request.WhichOneof("content") == "frame":
            self._frames[id(request)] = request
            if len(self._frames) > self._max_frames:
                self.remove(next(iter(self._frames.values())))

    def remove(self, request: Request) -> None:
        """Remove a message, if it is here."""
        self._requests.pop(id(request), None)
        self._frames.pop(id(request), None)

    @property
    def first_frame(self) -> int | None:
        """The number of the oldest frame, None if there is none."""
        return next((r.frame.sequence for r in self._frames.values()), None)

    def acknowledge_frame(self, sequence: int) -> None:
        """Remove the frames up to a number."""
        while self._frames and next(iter(self._frames.values())).frame.sequence <= sequence:
            self.remove(next(iter(self._frames.values())))

    def acknowledge_request(self, request_id: str) -> None:
        """Remove the message with a request id."""
        for request in list(self._requests.values()):
            name = request.WhichOneof("content")
            if name in _COMMANDS and getattr(request, name).request_id == request_id:
                self.remove(request)

    def since(self, next_sequence: int) -> list[Request]:
        """The messages for a server that has the frames before ``next_sequence``."""
        frames = self._frames
        return [r for k, r in self._requests.items() if k not in frames or r.frame.sequence >= next_sequence]
