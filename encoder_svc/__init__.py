"""The encoder service: computes, caches and serves image embeddings."""
