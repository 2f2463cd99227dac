"""Live streams: SegmentStream, its commands and its results."""
