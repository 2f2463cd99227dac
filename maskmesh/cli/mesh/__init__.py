"""Meshes that commands start, and the options that choose one."""
