"""The command ``maskmesh points``."""
