"""The model at work: loading, warm-up, prompts, tracking and the form of masks."""
