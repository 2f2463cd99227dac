"""``maskmesh segment``: a video, an image, or a folder of images."""
