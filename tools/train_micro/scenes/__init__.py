"""Training and evaluation scenes, rendered from photographs, shapes and textures."""
