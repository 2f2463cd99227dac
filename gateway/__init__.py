"""The gateway: the one door for other backends."""
