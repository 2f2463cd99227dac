"""The room around the objects: table, wall, shelf, light and camera."""

import math
from typing import Any

import bpy
from mathutils import Vector

from tools.table_clip.materials import Material


def make_room() -> None:
    """The table, a wall, and a shelf with books and boxes out of focus."""
    bpy.ops.mesh.primitive_plane_add(size=1)
    table = bpy.context.object
    table.scale = (1.6, 0.9, 1)
    table.location = (0, 0.12, 0)
    wood = Material("wood", roughness=0.42, coat=0.12)
    grain = wood.noise((8.0, 60.0, 1.0), detail=12.0, distortion=1.2)
    wood.colour(
        wood.ramp(grain, {0.3: (0.1, 0.045, 0.02), 0.5: (0.24, 0.12, 0.055), 0.72: (0.36, 0.21, 0.11)})
    )
    wood.bump(grain, 0.15, 0.002).on(table)
    bpy.ops.mesh.primitive_plane_add(size=5, location=(0, 1.5, 0.5), rotation=(math.pi / 2, 0, 0))
    plaster = Material("plaster", roughness=0.9)
    plaster.colour(plaster.ramp(plaster.noise((2, 2, 2)), {0.3: (0.42, 0.4, 0.35), 0.7: (0.55, 0.52, 0.46)}))
    plaster.on(bpy.context.object)
    bpy.ops.mesh.primitive_cube_add(size=1, location=(0, 1.3, -0.03))
    shelf = bpy.context.object
    shelf.scale = (4, 0.35, 0.04)
    Material("shelf", roughness=0.5).colour((0.3, 0.27, 0.24)).on(shelf)
    across = -1.1
    for number in range(26):
        # Fixed pseudo-random sizes and colours.
        wide, tall, shade = (0.03 + 0.05 * ((number * k) % 17) / 17 for k in (5, 11, 7))
        height = 0.14 + 2.6 * (tall - 0.03)
        bpy.ops.mesh.primitive_cube_add(size=1, location=(across + wide / 2, 1.3, height / 2))
        book = bpy.context.object
        book.scale = (wide, 0.2, height)
        tone = (shade - 0.03) / 0.05
        hue = ((0.5, 0.1, 0.07), (0.06, 0.16, 0.2), (0.55, 0.42, 0.2), (0.1, 0.2, 0.1))[number * 3 % 4]
        Material(f"book {number}", roughness=0.7).colour(tuple((0.4 + 0.9 * tone) * c for c in hue)).on(book)
        across += wide + (0.22 if number % 7 == 5 else 0.004)


def make_light() -> None:
    """Daylight through a window on the left, a warm lamp on the right, and a dim room."""
    world = bpy.data.worlds.new("room")
    bpy.context.scene.world = world
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.5, 0.55, 0.65, 1)
    world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.25
    for place, colour, watts, side in (
        ((-1.3, -0.3, 1.0), (1.0, 0.96, 0.9), 42, 0.8),
        ((1.2, 0.6, 1.1), (1.0, 0.76, 0.5), 12, 0.25),
        ((0.2, 1.0, 1.6), (1.0, 0.9, 0.8), 18, 0.6),
    ):
        light = bpy.data.lights.new("area", "AREA")
        light.energy, light.color, light.size = watts, colour, side
        obj = bpy.data.objects.new("area", light)
        obj.location = place
        obj.rotation_euler = (Vector((0, 0.1, 0.05)) - Vector(place)).to_track_quat("-Z", "Y").to_euler()
        bpy.context.collection.objects.link(obj)


def make_camera() -> Any:
    """A camera with a lens of 50 mm, focused on the mug."""
    camera = bpy.data.cameras.new("camera")
    camera.lens = 50
    camera.dof.use_dof = True
    camera.dof.aperture_fstop = 4.0
    obj = bpy.data.objects.new("camera", camera)
    bpy.context.collection.objects.link(obj)
    bpy.context.scene.camera = obj
    return obj
