"""A codec of ``FetchResponse`` without the copies of bytes that Python protobuf messages make.

The encoding is that of the proto: the tag of the field, its length, and its bytes.
"""

from maskmesh.internal.v1 import encoder_pb2

_LENGTH_DELIMITED = 2
_TAG = encoder_pb2.FetchResponse.DESCRIPTOR.fields_by_name["chunk"].number << 3 | _LENGTH_DELIMITED


def serialize(response: encoder_pb2.FetchResponse | memoryview) -> bytes:
    """Serialise a message, or the bytes of a chunk as a message that has this chunk only."""
    if isinstance(response, encoder_pb2.FetchResponse):
        return response.SerializeToString()
    start = bytearray([_TAG])
    length = len(response)
    while length > 0x7F:
        start.append(length & 0x7F | 0x80)
        length >>= 7
    start.append(length)
    return b"".join((start, response))


def parse(data: bytes) -> encoder_pb2.FetchResponse | memoryview:
    """Parse a message; returns the bytes of its chunk if it has no other field."""
    if data and data[0] == _TAG:
        length = shift = 0
        for position in range(1, min(len(data), 6)):
            length |= (data[position] & 0x7F) << shift
            shift += 7
            if data[position] <= 0x7F:
                if len(data) == position + 1 + length:
                    return memoryview(data)[position + 1 :]
                break
    return encoder_pb2.FetchResponse.FromString(data)
