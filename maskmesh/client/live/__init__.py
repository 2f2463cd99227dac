"""The client of live streams."""
