"""The size of the clip, and the objects that it shows."""

WIDTH, HEIGHT, RATE, FRAMES = 640, 360, 24, 60

# By obj_id: what the clip tracks.
ORANGE, MUG, PEAR = 1, 2, 3

# The grey value of a rendered id is this times the id.
ID_STEP = 32

# A click on each object on frame 0.
CLICKS = {ORANGE: (60, 165), MUG: (295, 200), PEAR: (600, 225)}
