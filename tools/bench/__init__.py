"""The mesh beside transformers and beside its own stages, on the same frames and weights."""
