"""``maskmesh batch``: many videos and images over one mesh."""
