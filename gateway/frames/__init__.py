"""Frames of a session: uploads, video files, live frames, and their copies for other gateways."""
