"""The requests that a client resends when it resumes a live stream."""

from maskmesh.client.live.resend_buffer import Request, ResendBuffer


def frame(sequence: int) -> Request:
    request = Request()
    request.frame.sequence = sequence
    return request


def prompt(request_id: str) -> Request:
    request = Request()
    request.prompt.request_id = request_id
    return request


def removal(request_id: str) -> Request:
    request = Request()
    request.removal.request_id = request_id
    return request


def test_acknowledged_requests_are_not_resent() -> None:
    unanswered = ResendBuffer(10)
    sent = [frame(0), prompt("a"), frame(1), removal("b"), frame(2), frame(3)]
    for request in sent:
        unanswered.add(request)
    assert unanswered.since(0) == sent
    unanswered.acknowledge_frame(1)
    assert unanswered.since(0) == [sent[1], sent[3], sent[4], sent[5]]
    unanswered.acknowledge_request("a")
    assert unanswered.first_frame == 2
    assert unanswered.since(0) == [sent[3], sent[4], sent[5]]
    # The server has all frames: only an unacknowledged prompt or removal is resent.
    assert unanswered.since(4) == [sent[3]]
    unanswered.acknowledge_request("b")
    unanswered.acknowledge_frame(3)
    assert len(unanswered) == 0
    assert unanswered.first_frame is None


def test_number_of_kept_frames_is_bounded() -> None:
    unanswered = ResendBuffer(2)
    sent = [frame(0), prompt("a"), frame(1), frame(2), frame(3)]
    for request in sent:
        unanswered.add(request)
    assert unanswered.since(0) == [sent[1], sent[3], sent[4]]
    assert unanswered.first_frame == 2
    assert sent[4] in unanswered
    assert sent[0] not in unanswered


def test_equal_messages_are_distinguished_by_identity() -> None:
    unanswered = ResendBuffer(10)
    first, second = prompt("a"), prompt("a")
    unanswered.add(first)
    unanswered.add(second)
    unanswered.remove(first)
    assert unanswered.since(0)[0] is second
    assert len(unanswered) == 1


def test_finish_request_is_always_resent() -> None:
    unanswered = ResendBuffer(10)
    finish = Request()
    finish.finish.SetInParent()
    unanswered.add(frame(0))
    unanswered.add(finish)
    unanswered.acknowledge_frame(5)
    assert unanswered.since(6) == [finish]
