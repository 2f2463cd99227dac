"""Records of runs: budgets, windows and summaries as files."""
