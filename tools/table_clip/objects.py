"""The objects that the clip tracks, and their shapes."""

import math
from collections.abc import Sequence
from typing import Any

import bpy

from tools.table_clip.clip import MUG, ORANGE, PEAR
from tools.table_clip.materials import Material


def smooth(obj: Any) -> Any:
    """Interpolate the normals of a mesh."""
    for polygon in obj.data.polygons:
        polygon.use_smooth = True
    return obj


def lathe(name: str, outline: Sequence[tuple[float, float]], steps: int = 96) -> Any:
    """A body of revolution; ``outline`` is a polyline of (radius, height) in metres."""
    points, faces = [], []
    for step in range(steps):
        angle = 2 * math.pi * step / steps
        points += [(r * math.cos(angle), r * math.sin(angle), z) for r, z in outline]
    count = len(outline)
    for step in range(steps):
        here, there = step * count, (step + 1) % steps * count
        faces += [(here + i, there + i, there + i + 1, here + i + 1) for i in range(count - 1)]
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(points, [], faces)
    obj = bpy.data.objects.new(name, mesh)
    bpy.context.collection.objects.link(obj)
    subdivided = obj.modifiers.new("smooth", "SUBSURF")
    subdivided.levels = subdivided.render_levels = 2
    return smooth(obj)


def tag(obj_id: int, *objects: Any) -> None:
    """Mark the parts of a tracked object."""
    for obj in objects:
        obj.pass_index = obj_id


def make_orange() -> Any:
    """An orange of 8 cm with pores and the remains of its stem; its origin is its centre."""
    bpy.ops.mesh.primitive_uv_sphere_add(segments=96, ring_count=64, radius=0.04)
    peel = smooth(bpy.context.object)
    peel.scale = (1.0, 1.0, 0.95)
    skin = Material("peel", roughness=0.38, coat=0.15, subsurface=0.15)
    skin.colour(skin.ramp(skin.noise((45, 45, 45)), {0.3: (0.72, 0.2, 0.012), 0.7: (0.9, 0.33, 0.02)}))
    skin.bump(skin.noise((520, 520, 520), detail=2.0), 0.5, 0.0012).on(peel)
    stem = lathe("stem", [(0.0, 0.0405), (0.004, 0.0405), (0.0075, 0.0375)], 10)
    stem.parent = peel
    Material("stem", roughness=0.8).colour((0.13, 0.2, 0.04)).on(stem)
    tag(ORANGE, peel, stem)
    return peel


def make_mug() -> None:
    """A glazed, speckled mug of 10 cm, which stands in the middle of the table."""
    wall = [
        (0.0, 0.004), (0.034, 0.004), (0.0355, 0.0), (0.038, 0.0005), (0.041, 0.005), (0.042, 0.05),
        (0.042, 0.097), (0.0415, 0.099), (0.0395, 0.099), (0.039, 0.097), (0.039, 0.02),
        (0.036, 0.01), (0.0, 0.009),
    ]  # fmt: skip
    body = lathe("mug", wall)
    bpy.ops.mesh.primitive_torus_add(major_radius=0.026, minor_radius=0.0058, major_segments=64)
    handle = smooth(bpy.context.object)
    handle.rotation_euler = (math.pi / 2, 0, 0)
    handle.scale = (0.9, 1.15, 1.25)
    handle.location = (0.045, 0, 0.052)
    handle.parent = body
    glaze = Material("glaze", roughness=0.16, coat=0.6)
    speckles = glaze.noise((700, 700, 700), detail=1.0)
    glaze.colour(glaze.ramp(speckles, {0.36: (0.02, 0.05, 0.09), 0.42: (0.045, 0.16, 0.27)}))
    glaze.bump(glaze.noise((60, 60, 60), detail=1.0), 0.12, 0.002).on(body, handle)
    tag(MUG, body, handle)
    body.rotation_euler = (0, 0, math.radians(-28))


def make_pear() -> Any:
    """A pear that stands on the table; its origin is the point that it stands on."""
    outline = [
        (0.0, 0.006), (0.008, 0.002), (0.02, 0.003), (0.033, 0.015), (0.037, 0.033), (0.032, 0.053),
        (0.022, 0.07), (0.0165, 0.083), (0.013, 0.092), (0.006, 0.097), (0.0, 0.096),
    ]  # fmt: skip
    body = lathe("pear", outline)
    skin = Material("pear skin", roughness=0.42, coat=0.1, subsurface=0.1)
    blotches = skin.noise((38, 38, 22), detail=5.0, distortion=0.4)
    skin.colour(
        skin.ramp(blotches, {0.3: (0.25, 0.36, 0.03), 0.55: (0.44, 0.47, 0.06), 0.75: (0.5, 0.3, 0.07)})
    )
    skin.bump(skin.noise((400, 400, 400), detail=2.0), 0.2, 0.0008).on(body)
    stem = lathe("pear stem", [(0.0022, 0.09), (0.0018, 0.105), (0.0026, 0.118), (0.0, 0.119)], 12)
    stem.rotation_euler = (0.12, 0.05, 0)
    stem.parent = body
    Material("pear stem", roughness=0.9).colour((0.07, 0.04, 0.015)).on(stem)
    tag(PEAR, body, stem)
    return body
