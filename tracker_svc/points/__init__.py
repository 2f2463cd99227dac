"""Tracking of points: models, and the points of one stream."""
