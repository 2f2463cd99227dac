"""``maskmesh stream``: live sources."""
