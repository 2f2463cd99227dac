"""EraseObjects: the frames of a session without chosen objects."""
