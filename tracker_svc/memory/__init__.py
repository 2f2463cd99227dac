"""The memory of tracked objects: selection of the frames that condition a frame, and storage of their
states.
"""
