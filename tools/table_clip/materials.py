"""Surfaces: principled materials that noise colours and roughens."""

from collections.abc import Mapping
from typing import Any

import bpy

Triple = tuple[float, float, float]


class Material:
    """A principled material, and the nodes that colour it."""

    def __init__(self, name: str, *, roughness: float, coat: float = 0.0, subsurface: float = 0.0) -> None:
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.nodes, self.links = self.material.node_tree.nodes, self.material.node_tree.links
        self.surface = self.nodes["Principled BSDF"]
        self.surface.inputs["Roughness"].default_value = roughness
        self.surface.inputs["Coat Weight"].default_value = coat
        self.surface.inputs["Subsurface Weight"].default_value = subsurface
        self.surface.inputs["Subsurface Radius"].default_value = (0.012, 0.006, 0.003)

    def coordinates(self, scale: Triple) -> Any:
        """Coordinates that move with the object, scaled."""
        source = self.nodes.new("ShaderNodeTexCoord")
        mapping = self.nodes.new("ShaderNodeMapping")
        mapping.inputs["Scale"].default_value = scale
        self.links.new(source.outputs["Object"], mapping.inputs["Vector"])
        return mapping.outputs["Vector"]

    def noise(self, scale: Triple, detail: float = 6.0, distortion: float = 0.0) -> Any:
        """Fractal noise from 0 to 1."""
        noise = self.nodes.new("ShaderNodeTexNoise")
        noise.inputs["Scale"].default_value = 1.0
        noise.inputs["Detail"].default_value = detail
        noise.inputs["Distortion"].default_value = distortion
        self.links.new(self.coordinates(scale), noise.inputs["Vector"])
        return noise.outputs["Fac"]

    def ramp(self, value: Any, stops: Mapping[float, Triple]) -> Any:
        """Colours for values from 0 to 1."""
        node = self.nodes.new("ShaderNodeValToRGB")
        elements = node.color_ramp.elements
        while len(elements) < len(stops):
            elements.new(0.5)
        for element, (position, colour) in zip(elements, sorted(stops.items()), strict=True):
            element.position = position
            element.color = (*colour, 1.0)
        self.links.new(value, node.inputs["Fac"])
        return node.outputs["Color"]

    def colour(self, colour: Any) -> "Material":
        """Take a constant colour or the output of a node."""
        if isinstance(colour, tuple):
            self.surface.inputs["Base Color"].default_value = (*colour, 1.0)
        else:
            self.links.new(colour, self.surface.inputs["Base Color"])
        return self

    def bump(self, height: Any, strength: float, distance: float) -> "Material":
        """Bumps of a height map; ``distance`` in metres."""
        node = self.nodes.new("ShaderNodeBump")
        node.inputs["Strength"].default_value = strength
        node.inputs["Distance"].default_value = distance
        self.links.new(height, node.inputs["Height"])
        self.links.new(node.outputs["Normal"], self.surface.inputs["Normal"])
        return self

    def on(self, *objects: Any) -> None:
        """Assign the material."""
        for obj in objects:
            obj.data.materials.clear()
            obj.data.materials.append(self.material)
