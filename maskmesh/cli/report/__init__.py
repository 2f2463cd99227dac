"""``maskmesh report``: latencies from traces and records."""
