"""Quality of masks: metrics, and the evaluation of images and clips against true masks."""
