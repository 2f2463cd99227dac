"""``maskmesh doctor``: what is wrong with a machine or a mesh, and what to do about it."""
