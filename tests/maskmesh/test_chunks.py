import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskmesh.internal.v1 import encoder_pb2
from maskmesh.wire import fetch_codec


@pytest.mark.parametrize("length", [0, 1, 127, 128, 2**14 - 1, 2**14, 2**20, 2**21])
def test_chunk_codec_matches_protobuf(length: int) -> None:
    data = bytes(i % 251 for i in range(length))
    message = encoder_pb2.FetchResponse(chunk=data)
    assert fetch_codec.serialize(memoryview(data)) == message.SerializeToString()
    assert fetch_codec.parse(message.SerializeToString()) == data


def test_header_and_empty_messages_round_trip() -> None:
    header = encoder_pb2.FetchResponse(header=encoder_pb2.FetchHeader(num_bytes=5, shared_memory="here"))
    assert fetch_codec.parse(fetch_codec.serialize(header)) == header
    assert fetch_codec.parse(b"") == encoder_pb2.FetchResponse()


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_parse_matches_protobuf_on_arbitrary_bytes(chunk: bytes, rest: bytes) -> None:
    """Also if unknown fields of a newer protocol version follow the chunk."""
    data = encoder_pb2.FetchResponse(chunk=chunk).SerializeToString() + rest
    try:
        expected = encoder_pb2.FetchResponse.FromString(data)
    except Exception as error:
        with pytest.raises(type(error)):
            fetch_codec.parse(data)
        return
    parsed = fetch_codec.parse(data)
    assert (parsed.chunk if isinstance(parsed, encoder_pb2.FetchResponse) else parsed) == expected.chunk
