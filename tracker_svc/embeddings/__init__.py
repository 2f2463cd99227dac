"""Embeddings of the encoder: fetching and caching."""
