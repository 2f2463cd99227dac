"""Benchmarks of the mesh against transformers and against its own stages in one process."""
