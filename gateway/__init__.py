"""The gateway: the public API, which client backends call."""
