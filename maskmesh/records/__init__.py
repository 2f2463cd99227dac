"""Records of runs: the time of each window against its budget, and the summary of a run."""
