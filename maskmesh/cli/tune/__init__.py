"""``maskmesh tune``: settings for this machine, and the price of each preset."""
