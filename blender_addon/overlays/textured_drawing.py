# SPDX-License-Identifier: GPL-3.0-or-later
"""A body that wears an image, brought to the GPU and drawn.

By a shader of its own: Blender's, for images, shows an image's colours darker in a 3D view than the
image editor does.
"""

from __future__ import annotations

import functools

import bpy
import gpu
from gpu_extras.batch import batch_for_shader

from .overlay_shapes import Textured

_VERTEX = """
void main()
{
  uv = texCoord;
  gl_Position = transform * vec4(pos, 1.0);
}
"""
_FRAGMENT = """
void main()
{
  colour = texture(image, uv);
}
"""


def batch_of(shape: Textured) -> gpu.types.GPUBatch:
    """A body on the GPU."""
    content = {"pos": shape.points, "texCoord": shape.coordinates}
    return batch_for_shader(_shader(), "TRIS", content)


def draw(shape: Textured, batch: gpu.types.GPUBatch) -> None:
    """The body in the colours of its image; what was never seen lets the body's own through."""
    image = bpy.data.images.get(shape.image)
    if image is None or not image.size[0]:
        return
    shader = _shader()
    transform = gpu.matrix.get_projection_matrix() @ gpu.matrix.get_model_view_matrix()
    shader.uniform_float("transform", transform)
    shader.uniform_sampler("image", gpu.texture.from_image(image))
    batch.draw(shader)


@functools.cache
def _shader() -> gpu.types.GPUShader:
    passed = gpu.types.GPUStageInterfaceInfo("posefit_textured")
    passed.smooth("VEC2", "uv")
    info = gpu.types.GPUShaderCreateInfo()
    info.push_constant("MAT4", "transform")
    info.sampler(0, "FLOAT_2D", "image")
    info.vertex_in(0, "VEC3", "pos")
    info.vertex_in(1, "VEC2", "texCoord")
    info.vertex_out(passed)
    info.fragment_out(0, "VEC4", "colour")
    info.vertex_source(_VERTEX)
    info.fragment_source(_FRAGMENT)
    return gpu.shader.create_from_info(info)
