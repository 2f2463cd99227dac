"""``maskmesh evaluate``: masks beside true ones."""
