"""Keys of cached embeddings, and the references that are returned for them."""

from encoder_svc.cache import Embedding
from encoder_svc.encoder import Encoder
from maskmesh.embedding_key import EmbeddingKey
from maskmesh.types import DEFAULT_TENANT, EmbeddingRef, SharedBlock


def cache_key(tenant: str, key: str, encoder: Encoder) -> EmbeddingKey:
    """The key of an image's embedding by the model of ``encoder``."""
    return EmbeddingKey(tenant or DEFAULT_TENANT, encoder.info.model_id, key)


def shared_block(embedding: Embedding, encoder: Encoder) -> SharedBlock | None:
    """The embedding's block in shared memory; None if the embedding is not in shared memory."""
    if encoder.shared_memory is None or embedding.block is None:
        return None
    return SharedBlock(encoder.shared_memory.path.name, embedding.block)


def embedding_ref(key: EmbeddingKey, encoder: Encoder, embedding: Embedding, address: str) -> EmbeddingRef:
    """The reference to an embedding of the service at ``address``."""
    return EmbeddingRef(
        key=key.digest,
        model_id=key.model_id,
        address=address,
        num_bytes=len(embedding.data),
        image_width=embedding.image_width,
        image_height=embedding.image_height,
        tenant=key.tenant,
        shared=shared_block(embedding, encoder),
    )
