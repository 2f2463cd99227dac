"""Admission to queues, and the order in which a device does the work in them."""
