"""Inference with the tracking model: warm-up, prompts, tracking and mask output."""
