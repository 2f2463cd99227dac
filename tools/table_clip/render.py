"""Render the table clip: an orange rolls behind a mug, a pear slides in, a hand holds the camera.

    pip install bpy==4.2.0   # Blender as a Python module, in an environment of its own with Python 3.11
    python -m tools.table_clip.render FOLDER

Writes ``frames/00000.png`` and ``ids/00000.png`` for every frame; the grey value of a pixel in ``ids`` is
ID_STEP times the obj_id of what it shows.  Files that exist are kept, so that an interrupted run goes on.
Cycles traces the light paths; no picture and no model comes from elsewhere.
"""

import math
import sys
from pathlib import Path
from typing import Any

import bpy
from mathutils import Vector

from tools.table_clip.clip import FRAMES, HEIGHT, ID_STEP, WIDTH
from tools.table_clip.objects import make_mug, make_orange, make_pear
from tools.table_clip.room import make_camera, make_light, make_room

# Light paths for each pixel; the rest of the noise is removed by the denoiser.
SAMPLES = 16


def move_all(orange: Any, pear: Any, camera: Any) -> None:
    """Set the positions of the orange, the pear and the camera on every frame."""

    def motion(index: int) -> None:
        time = index / (FRAMES - 1)
        way = 0.425 * (1 - max(1 - time, 0.0) ** 1.6)
        orange.location = (-0.225 + way, 0.115 - 0.06 * time, 0.0395)
        orange.rotation_euler = (0.5, way / 0.0395, 0.2)
        slide = 0.075 * (1 - min(time / 0.55, 1.0)) ** 2
        rest = math.exp(-4.5 * time) * 0.16
        pear.location = (0.135 + slide, -0.075 + 0.3 * slide, 0.0)
        pear.rotation_euler = (rest * math.sin(21 * time), rest * math.cos(26 * time), 0.4 - 2.2 * slide)
        sway = (
            0.004 * math.sin(5.1 * time + 0.4) + 0.0016 * math.sin(17 * time) + 0.0007 * math.sin(41 * time)
        )
        lift = 0.003 * math.sin(6.3 * time) + 0.0012 * math.sin(23 * time + 1) + 0.0006 * math.sin(47 * time)
        place = Vector((0.035 - 0.05 * time + sway, -0.66 + 0.03 * time, 0.245 + lift))
        target = Vector((0.012 + 1.2 * sway, 0.02, 0.052 - 0.6 * lift))
        camera.location = place
        camera.rotation_euler = (target - place).to_track_quat("-Z", "Y").to_euler()
        camera.data.dof.focus_distance = (Vector((0, -0.02, 0.05)) - place).length
        for obj in (orange, pear, camera):
            obj.keyframe_insert("location", frame=index)
            obj.keyframe_insert("rotation_euler", frame=index)
        camera.data.dof.keyframe_insert("focus_distance", frame=index)

    # Motion blur needs the positions before the first and after the last frame.
    for index in range(-1, FRAMES + 1):
        motion(index)


def render(path: Path, index: int) -> None:
    """Render one frame to a file."""
    scene = bpy.context.scene
    scene.frame_set(index)
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def as_film() -> None:
    """Light paths, depth of field, motion blur and the tone curve of film."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples = SAMPLES
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = True
    scene.cycles.max_bounces = 4
    scene.render.use_motion_blur = True
    scene.render.motion_blur_shutter = 0.5
    scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
    scene.render.image_settings.file_format = "PNG"
    scene.render.use_persistent_data = True
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - Medium High Contrast"
    scene.view_settings.exposure = 0.55


def as_ids() -> None:
    """One ray for each pixel, sharp, that returns the obj_id of what it hits."""
    scene = bpy.context.scene
    scene.cycles.samples = 1
    scene.cycles.use_denoising = False
    scene.cycles.max_bounces = 0
    scene.cycles.filter_width = 0.01
    scene.render.use_motion_blur = False
    scene.camera.data.dof.use_dof = False
    scene.view_settings.view_transform = "Raw"
    scene.view_settings.look = "None"
    scene.view_settings.exposure = 0.0
    scene.render.image_settings.color_mode = "BW"
    scene.render.dither_intensity = 0.0
    for obj in scene.objects:
        if obj.type == "LIGHT":
            obj.hide_render = True
        if obj.type == "MESH":
            material = bpy.data.materials.new("id")
            material.use_nodes = True
            tree = material.node_tree
            emission = tree.nodes.new("ShaderNodeEmission")
            value = obj.pass_index * ID_STEP / 255
            emission.inputs["Color"].default_value = (value, value, value, 1)
            tree.links.new(emission.outputs[0], tree.nodes["Material Output"].inputs["Surface"])
            obj.data.materials.clear()
            obj.data.materials.append(material)
    scene.world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.0


def main(folder: Path) -> None:
    """Render all frames, then all ids."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.preferences.edit.keyframe_new_interpolation_type = "LINEAR"
    make_room()
    make_light()
    make_mug()
    move_all(make_orange(), make_pear(), make_camera())
    for name, style in (("frames", as_film), ("ids", as_ids)):
        style()
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(FRAMES):
            path = folder / name / f"{index:05d}.png"
            if not path.exists():
                render(path, index)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
