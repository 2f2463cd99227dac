"""Files of the command: sources, overlays, masks, and checks before the work begins."""
