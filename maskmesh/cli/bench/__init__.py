"""``maskmesh bench``: latency and throughput of a mesh."""
