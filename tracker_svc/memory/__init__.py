"""The memory of tracked objects: which frames condition a frame, and where their states are."""
