"""State outside of a process's heap: Redis, shared memory, folders for scratch files."""
