"""What is sent again when a live stream goes on."""

from maskmesh.client.resend_buffer import Request, ResendBuffer


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


def test_what_was_answered_is_not_sent_again() -> None:
    unanswered = ResendBuffer(10)
    sent = [frame(0), prompt("a"), frame(1), removal("b"), frame(2), frame(3)]
    for request in sent:
        unanswered.add(request)
    assert unanswered.since(0) == sent
    unanswered.acknowledge(1)
    assert unanswered.since(0) == [sent[1], sent[3], sent[4], sent[5]]
    unanswered.answered("a")
    assert unanswered.first_frame == 2
    assert unanswered.since(0) == [sent[3], sent[4], sent[5]]
    # What the server has already: only what is said between frames.
    assert unanswered.since(4) == [sent[3]]
    unanswered.answered("b")
    unanswered.acknowledge(3)
    assert len(unanswered) == 0
    assert unanswered.first_frame is None


def test_only_so_many_frames_are_kept() -> None:
    unanswered = ResendBuffer(2)
    sent = [frame(0), prompt("a"), frame(1), frame(2), frame(3)]
    for request in sent:
        unanswered.add(request)
    assert unanswered.since(0) == [sent[1], sent[3], sent[4]]
    assert unanswered.first_frame == 2
    assert unanswered.has(sent[4])
    assert not unanswered.has(sent[0])


def test_equal_messages_are_told_apart() -> None:
    unanswered = ResendBuffer(10)
    first, second = prompt("a"), prompt("a")
    unanswered.add(first)
    unanswered.add(second)
    unanswered.remove(first)
    assert unanswered.since(0)[0] is second
    assert len(unanswered) == 1


def test_the_end_stays_until_it_is_there() -> None:
    unanswered = ResendBuffer(10)
    finish = Request()
    finish.finish.SetInParent()
    unanswered.add(frame(0))
    unanswered.add(finish)
    unanswered.acknowledge(5)
    assert unanswered.since(6) == [finish]
