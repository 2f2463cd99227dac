"""The command ``maskmesh erase``."""
