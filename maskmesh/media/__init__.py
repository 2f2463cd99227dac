"""Pictures and videos: what a file is, its pixels as they are displayed, and an index of its frames."""
