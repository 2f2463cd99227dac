"""``maskmesh web``: a page for clips, pictures and the camera; a client of the gateway like any other."""
