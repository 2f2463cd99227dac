import re

import grpc
import pytest

from maskmesh import InvalidPrompt, MaskmeshError, ResourceExhausted, Unauthenticated, Unavailable, errors
from maskmesh.rpc.status import from_rpc_error, to_status
from maskmesh.v1 import error_reason_pb2

LEAVES = [
    c for c in errors.all_errors() if c not in (MaskmeshError, errors.NotFound, errors.FailedPrecondition)
]


def make(cls: type[MaskmeshError]) -> MaskmeshError:
    if issubclass(cls, errors.InvalidRequest):
        return cls("no good", field="prompt.points[0].x", limit=7)
    if issubclass(cls, ResourceExhausted):
        return cls("full", resource="sessions", retry_seconds=2.5)
    return cls("failed", session_id="s")


def over_the_wire(error: MaskmeshError) -> Exception:
    status = to_status(error)
    metadata = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    call = grpc.aio.AioRpcError(error.code, grpc.aio.Metadata(), metadata, details=error.message)
    return from_rpc_error(call)


@pytest.mark.parametrize("cls", LEAVES)
def test_every_error_class_round_trips(cls: type[MaskmeshError]) -> None:
    sent = make(cls)
    back = over_the_wire(sent)
    assert type(back) is cls
    assert isinstance(back, MaskmeshError)
    assert (back.message, back.metadata, back.code) == (sent.message, sent.metadata, sent.code)
    assert str(back) == sent.message
    if isinstance(sent, ResourceExhausted):
        assert isinstance(back, ResourceExhausted)
        assert back.retry_seconds == 2.5


def test_every_reason_is_used_once() -> None:
    reasons = [c.reason for c in LEAVES]
    assert len(reasons) == len(set(reasons))
    assert set(reasons) == {v.number for v in error_reason_pb2.ErrorReason.DESCRIPTOR.values} - {0}


def test_status_codes_match_the_contract() -> None:
    codes = {c.__name__: c.code.name for c in LEAVES}
    assert codes["SessionNotFound"] == codes["ObjectNotFound"] == "NOT_FOUND"
    assert codes["InvalidPrompt"] == codes["ImageTooLarge"] == "INVALID_ARGUMENT"
    assert codes["NothingPrompted"] == codes["ModelMismatch"] == "FAILED_PRECONDITION"
    assert codes["ResourceExhausted"] == "RESOURCE_EXHAUSTED"
    assert codes["Unavailable"] == "UNAVAILABLE"
    assert codes["InternalError"] == "INTERNAL"


def test_bad_request_detail_names_the_field() -> None:
    from google.rpc import error_details_pb2

    status = to_status(InvalidPrompt("no good", field="prompt.box"))
    request = error_details_pb2.BadRequest()
    assert any(detail.Unpack(request) for detail in status.details)
    assert request.field_violations[0].field == "prompt.box"


def test_rpc_errors_without_maskmesh_details() -> None:
    nothing = grpc.aio.Metadata()
    lost = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details="refused")
    assert isinstance(from_rpc_error(lost), Unavailable)
    late = grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, nothing, nothing)
    assert from_rpc_error(late) is late


@pytest.mark.parametrize(
    ("code", "details", "kind", "words"),
    [
        ("UNKNOWN", "Received http2 header with status: 413", ResourceExhausted, "HTTP 413"),
        ("UNAVAILABLE", "Received http2 header with status: 502", Unavailable, r"HTTP 502 \(Bad Gateway\)"),
        ("UNAUTHENTICATED", "Received http2 header with status: 401", Unauthenticated, "HTTP 401"),
        ("PERMISSION_DENIED", "Received http2 header with status: 403", Unauthenticated, "HTTP 403"),
        ("INTERNAL", "Received http2 header with status: 799", Unavailable, "no reason given"),
        ("UNAVAILABLE", "Error in HTTP transport", Unavailable, "closed in the middle of a request"),
        (
            "RESOURCE_EXHAUSTED",
            "CLIENT: Sent message larger than max (72000000 vs. 67108864)",
            ResourceExhausted,
            "max_message_bytes.*72000000",
        ),
    ],
)
def test_answers_of_proxies_and_of_grpc_are_sentences(
    code: str, details: str, kind: type[MaskmeshError], words: str
) -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode[code], grpc.aio.Metadata(), grpc.aio.Metadata(), details=details
    )
    found = from_rpc_error(error)
    assert type(found) is kind
    assert re.search(words, str(found))
    if isinstance(found, ResourceExhausted):
        assert not found.passes
