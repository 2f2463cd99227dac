"""The training material on disk: its sets, images and clips."""
