"""Streams of random numbers: every phase draws scenes of its own, and nothing that judges shares one.

A scene's generator is seeded with the run's seed, the stream and the scene's index.
"""

TRAINING_STREAMS = {"images-192": 1, "images-256": 2, "clips-short": 3, "clips-256": 4}

# Within a stream of clips, that of the single pictures beside them.
STILLS = 1

# Clips that are looked at while training goes on.
VALIDATION_STREAM = 1000

# Clips of the model card, by suite.
EVALUATION_STREAMS = {
    "nothing in the way": 2000,
    "others pass in front": 2001,
    "two alike cross": 2002,
    "hidden for a while": 2003,
}
