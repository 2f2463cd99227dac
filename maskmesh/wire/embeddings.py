"""Conversion of references to embeddings, and of tensor descriptions, to messages and back."""

from collections.abc import Sequence

from maskmesh.errors import InvalidRequest
from maskmesh.internal.v1 import embedding_pb2
from maskmesh.types import DEFAULT_TENANT, Block, EmbeddingRef, SharedBlock, TensorSpec

_DTYPES = {
    "float32": embedding_pb2.D_TYPE_FLOAT32,
    "bfloat16": embedding_pb2.D_TYPE_BFLOAT16,
    "float16": embedding_pb2.D_TYPE_FLOAT16,
}


def embedding_ref_to_proto(ref: EmbeddingRef) -> embedding_pb2.EmbeddingRef:
    """Convert a reference to a message."""
    message = embedding_pb2.EmbeddingRef(
        key=ref.key,
        model_id=ref.model_id,
        address=ref.address,
        num_bytes=ref.num_bytes,
        image_width=ref.image_width,
        image_height=ref.image_height,
        tenant=ref.tenant,
    )
    if ref.shared is not None:
        message.shared_block.CopyFrom(shared_block_to_proto(ref.shared))
    return message


def embedding_ref_from_proto(message: embedding_pb2.EmbeddingRef) -> EmbeddingRef:
    """Convert a message to a reference.  Raises InvalidRequest if it is incomplete."""
    for field in ("key", "model_id", "address", "image_width", "image_height"):
        if not getattr(message, field):
            raise InvalidRequest("a reference to an embedding is incomplete", field=f"embedding.{field}")
    return EmbeddingRef(
        key=message.key,
        model_id=message.model_id,
        address=message.address,
        num_bytes=message.num_bytes,
        image_width=message.image_width,
        image_height=message.image_height,
        tenant=message.tenant or DEFAULT_TENANT,
        shared=shared_block_from_proto(message.shared_block) if message.HasField("shared_block") else None,
    )


def shared_block_to_proto(shared: SharedBlock) -> embedding_pb2.SharedBlock:
    """Convert a location in shared memory to a message."""
    number, generation = shared.block
    return embedding_pb2.SharedBlock(folder=shared.folder, number=number, generation=generation)


def shared_block_from_proto(message: embedding_pb2.SharedBlock) -> SharedBlock:
    """Convert a message to a location in shared memory."""
    return SharedBlock(message.folder, Block(message.number, message.generation))


def tensor_spec_to_proto(spec: TensorSpec) -> embedding_pb2.TensorSpec:
    """Convert the description of a tensor to a message."""
    return embedding_pb2.TensorSpec(name=spec.name, dtype=_DTYPES[spec.dtype], shape=spec.shape)


def tensor_specs_from_proto(messages: Sequence[embedding_pb2.TensorSpec]) -> list[TensorSpec]:
    """Convert messages to descriptions of tensors.  Raises InvalidRequest for an unknown type."""
    names = {number: name for name, number in _DTYPES.items()}
    for message in messages:
        if message.dtype not in names:
            raise InvalidRequest(f"unknown tensor type {message.dtype}", field="tensors.dtype")
    return [TensorSpec(m.name, names[m.dtype], tuple(m.shape)) for m in messages]
