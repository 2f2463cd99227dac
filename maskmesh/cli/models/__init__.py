"""``maskmesh models``: official checkpoints, and what a checkpoint file is."""
