"""Concept detection: from words, boxes and an image to the instances of a concept."""
