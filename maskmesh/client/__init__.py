"""The Python client: asynchronous, and a blocking form of the same calls."""
