"""Streams of frames: propagation of a video, live video, and the trace of each frame."""
