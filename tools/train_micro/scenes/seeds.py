"""Streams of random numbers: each training phase, validation and evaluation has its own streams.

A scene's generator is seeded with the run's seed, the stream and the scene's index.
"""

TRAINING_STREAMS = {"images-192": 1, "images-256": 2, "clips-short": 3, "clips-256": 4, "clips-long": 5}

# Substream of a clip stream for the single images of the same phase.
STILLS = 1

# Clips for validation during training.
VALIDATION_STREAM = 1000

# Clips for the model card, by suite.
EVALUATION_STREAMS = {
    "nothing in the way": 2000,
    "others pass in front": 2001,
    "two alike cross": 2002,
    "hidden for a while": 2003,
}
