"""The second sample clip, rendered by Blender so that it looks filmed."""
