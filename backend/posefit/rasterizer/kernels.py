# SPDX-License-Identifier: Apache-2.0
"""Warp kernels that turn triangles into fragments; one source for CPU and CUDA.

The ray through a pixel centre ``(u, v)`` meets a triangle whose corners are, in homogeneous pixels,
``p_i = (x_i, y_i, z_i) = intrinsics @ vertex_i``, where the edge functions ``e_i = d_j × d_k`` of
the offsets ``d_i = (x_i − z_i u, y_i − z_i v)`` have one sign; ``e_i / Σ e`` are then the
perspective-correct barycentric coordinates themselves. No division by depth happens before the
test, so a triangle that reaches behind the camera needs no clipping: only its bounding box must
know of the near plane.

Every kernel walks over its work with a stride, so that a GPU starts one thread for each item and
a CPU, where Warp runs the threads of a launch one after the other, one thread for many.

Source: Olano and Greer, "Triangle Scan Conversion using 2D Homogeneous Coordinates", Graphics
Hardware 1997.
"""

from typing import no_type_check  # annotations are Warp's: no type checker knows them

import warp as wp

# A fused multiply-add rounds the shared edge of two triangles differently in each: cracks.
wp.set_module_options({"fuse_fp": False, "enable_backward": False, "optimization_level": 3})

EMPTY_KEY = 0x7FFFFFFFFFFFFFFF
"""Depth-buffer key of a pixel that no face covers."""

LARGEST = wp.constant(1e12)
"""Faces with a larger homogeneous coordinate, or one that is not a number, are skipped."""

EMPTY = wp.constant(wp.int64(EMPTY_KEY))
DEPTH_SHIFT = wp.constant(wp.int64(32))
FACE_BITS = wp.constant(wp.int64(0xFFFFFFFF))


@wp.func
@no_type_check
def to_pixels(camera: wp.mat33, point: wp.vec3) -> wp.vec3:
    """Homogeneous pixel coordinates (z u, z v, z) of a camera-frame point."""
    return wp.vec3(
        camera[0, 0] * point[0] + camera[0, 1] * point[1] + camera[0, 2] * point[2],
        camera[1, 1] * point[1] + camera[1, 2] * point[2],
        point[2],
    )


@wp.func
@no_type_check
def is_drawable(p0: wp.vec3, p1: wp.vec3, p2: wp.vec3, near: float) -> bool:
    """Whether a face has usable coordinates and a corner in front of the near plane."""
    size = (
        wp.abs(p0[0]) + wp.abs(p0[1]) + wp.abs(p0[2])
        + wp.abs(p1[0]) + wp.abs(p1[1]) + wp.abs(p1[2])
        + wp.abs(p2[0]) + wp.abs(p2[1]) + wp.abs(p2[2])
    )  # fmt: skip
    return size < LARGEST and wp.max(p0[2], wp.max(p1[2], p2[2])) >= near


@wp.func
@no_type_check
def grow(bounds: wp.vec4, x: float, y: float) -> wp.vec4:
    """Bounds (min x, min y, max x, max y) widened to hold a point."""
    return wp.vec4(
        wp.min(bounds[0], x), wp.min(bounds[1], y), wp.max(bounds[2], x), wp.max(bounds[3], y)
    )


@wp.func
@no_type_check
def grow_to_near_plane(bounds: wp.vec4, front: wp.vec3, back: wp.vec3, near: float) -> wp.vec4:
    """Bounds widened to hold the point where an edge leaves through the near plane."""
    t = (near - front[2]) / (back[2] - front[2])
    x = front[0] + t * (back[0] - front[0])
    y = front[1] + t * (back[1] - front[1])
    return grow(bounds, x / near, y / near)


@wp.func
@no_type_check
def grow_by_edge(bounds: wp.vec4, a: wp.vec3, b: wp.vec3, near: float) -> wp.vec4:
    """Bounds widened by the visible part of the edge from ``a`` to ``b``, without ``b`` itself."""
    if a[2] >= near:
        bounds = grow(bounds, a[0] / a[2], a[1] / a[2])
        if b[2] < near:
            bounds = grow_to_near_plane(bounds, a, b, near)
    elif b[2] >= near:
        bounds = grow_to_near_plane(bounds, b, a, near)
    return bounds


@wp.func
@no_type_check
def visible_bounds(p0: wp.vec3, p1: wp.vec3, p2: wp.vec3, near: float) -> wp.vec4:
    """Pixel bounds (min x, min y, max x, max y) of a triangle's part beyond the near plane."""
    if wp.min(p0[2], wp.min(p1[2], p2[2])) >= near:
        i0 = 1.0 / p0[2]
        i1 = 1.0 / p1[2]
        i2 = 1.0 / p2[2]
        x0 = p0[0] * i0
        x1 = p1[0] * i1
        x2 = p2[0] * i2
        y0 = p0[1] * i0
        y1 = p1[1] * i1
        y2 = p2[1] * i2
        return wp.vec4(
            wp.min(x0, wp.min(x1, x2)),
            wp.min(y0, wp.min(y1, y2)),
            wp.max(x0, wp.max(x1, x2)),
            wp.max(y0, wp.max(y1, y2)),
        )
    bounds = wp.vec4(wp.inf, wp.inf, -wp.inf, -wp.inf)
    bounds = grow_by_edge(bounds, p0, p1, near)
    bounds = grow_by_edge(bounds, p1, p2, near)
    return grow_by_edge(bounds, p2, p0, near)


@wp.func
@no_type_check
def edge_functions(p0: wp.vec3, p1: wp.vec3, p2: wp.vec3, u: float, v: float) -> wp.vec3:
    """Unnormalised perspective-correct barycentric coordinates of the ray through a pixel."""
    x0 = p0[0] - p0[2] * u
    y0 = p0[1] - p0[2] * v
    x1 = p1[0] - p1[2] * u
    y1 = p1[1] - p1[2] * v
    x2 = p2[0] - p2[2] * u
    y2 = p2[1] - p2[2] * v
    return wp.vec3(x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0)


@wp.func
@no_type_check
def draw_pixel(
    p0: wp.vec3,
    p1: wp.vec3,
    p2: wp.vec3,
    near: float,
    face: int,
    slot: int,
    x: int,
    y: int,
    keys: wp.array3d(dtype=wp.int64),
):
    """Enter a face into the depth buffer at one pixel if the pixel's ray meets it."""
    e = edge_functions(p0, p1, p2, float(x) + 0.5, float(y) + 0.5)
    least = wp.min(e[0], wp.min(e[1], e[2]))
    most = wp.max(e[0], wp.max(e[1], e[2]))
    if least * most >= 0.0:
        total = e[0] + e[1] + e[2]
        z = (e[0] * p0[2] + e[1] * p1[2] + e[2] * p2[2]) / total
        if z >= near:  # false as well for a face seen edge-on, where z is not a number
            # the bits of a positive float sort like an integer; equal depths go to the lower id
            key = (wp.int64(wp.cast(z, wp.int32)) << DEPTH_SHIFT) | wp.int64(face)
            wp.atomic_min(keys, slot, y, x, key)


@wp.kernel
@no_type_check
def draw_faces(
    points: wp.array2d(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    intrinsics: wp.array(dtype=wp.mat33),
    face_mask: wp.array2d(dtype=wp.bool),
    near: float,
    first_image: int,
    first_face: int,
    faces_per_thread: int,
    lanes_x: int,
    lanes_y: int,
    first_slot: int,
    keys: wp.array3d(dtype=wp.int64),
):
    """Depth-test faces; thread (image, run of faces, lane) takes every lanes-th pixel."""
    image, chunk, lane = wp.tid()
    slot = first_slot + image
    image += first_image
    lane_y = lane // lanes_x
    lane_x = lane - lane_y * lanes_x
    width = float(keys.shape[2])
    height = float(keys.shape[1])
    camera = intrinsics[image]
    start = first_face + chunk * faces_per_thread
    for face in range(start, wp.min(start + faces_per_thread, faces.shape[0])):
        if face_mask.shape[0] == 0 or face_mask[wp.min(image, face_mask.shape[0] - 1), face]:
            corner = faces[face]
            p0 = to_pixels(camera, points[image, corner[0]])
            p1 = to_pixels(camera, points[image, corner[1]])
            p2 = to_pixels(camera, points[image, corner[2]])
            if is_drawable(p0, p1, p2, near):
                bounds = visible_bounds(p0, p1, p2, near)
                x_first = int(wp.clamp(bounds[0] - 0.5, -1.0, width) + 1.0)
                x_stop = int(wp.clamp(bounds[2] + 0.5, 0.0, width))
                y_stop = int(wp.clamp(bounds[3] + 0.5, 0.0, height))
                y = int(wp.clamp(bounds[1] - 0.5, -1.0, height) + 1.0) + lane_y
                while y < y_stop:
                    x = x_first + lane_x
                    while x < x_stop:
                        draw_pixel(p0, p1, p2, near, face, slot, x, y, keys)
                        x += lanes_x
                    y += lanes_y


@wp.kernel
@no_type_check
def resolve_pixels(
    points: wp.array2d(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    intrinsics: wp.array(dtype=wp.mat33),
    keys: wp.array3d(dtype=wp.int64),
    layers: int,
    first_image: int,
    first_row: int,
    lanes: int,
    pix_to_face: wp.array3d(dtype=wp.int32),
    bary_coords: wp.array3d(dtype=wp.vec3),
    zbuf: wp.array3d(dtype=float),
):
    """Read the nearest face of each pixel from the depth buffers and locate the pixel in it."""
    image, row, lane = wp.tid()
    image += first_image
    y = row + first_row
    camera = intrinsics[image]
    x = int(lane)
    while x < keys.shape[2]:
        key = keys[image, y, x]
        for layer in range(1, layers):
            key = wp.min(key, keys[layer * points.shape[0] + image, y, x])
        if key == EMPTY:
            pix_to_face[image, y, x] = -1
            bary_coords[image, y, x] = wp.vec3(-1.0, -1.0, -1.0)
            zbuf[image, y, x] = -1.0
        else:
            face = int(key & FACE_BITS)
            corner = faces[face]
            p0 = to_pixels(camera, points[image, corner[0]])
            p1 = to_pixels(camera, points[image, corner[1]])
            p2 = to_pixels(camera, points[image, corner[2]])
            e = edge_functions(p0, p1, p2, float(x) + 0.5, float(y) + 0.5)
            pix_to_face[image, y, x] = face
            bary_coords[image, y, x] = e * (1.0 / (e[0] + e[1] + e[2]))
            zbuf[image, y, x] = wp.cast(wp.int32(key >> DEPTH_SHIFT), float)
        x += lanes


@wp.kernel
@no_type_check
def accumulate_pixels(
    pix_to_face: wp.array3d(dtype=wp.int32),
    bary_coords: wp.array3d(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    values: wp.array4d(dtype=float),
    counts: wp.array3d(dtype=wp.bool),
    sums: wp.array3d(dtype=wp.float64),
):
    """Add each pixel's values to the corners of its face, by barycentric coordinates."""
    image, y, x = wp.tid()
    face = pix_to_face[image, y, x]
    if face < 0 or not counts[image, y, x]:
        return
    corner = faces[face]
    bary = bary_coords[image, y, x]
    for k in range(3):
        share = wp.max(bary[k], 0.0)
        for channel in range(values.shape[3]):
            added = wp.float64(share * values[image, y, x, channel])
            wp.atomic_add(sums, image, corner[k], channel, added)


@wp.kernel
@no_type_check
def interpolate_pixels(
    pix_to_face: wp.array3d(dtype=wp.int32),
    bary_coords: wp.array3d(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    attributes: wp.array3d(dtype=float),
    first_image: int,
    lanes: int,
    values: wp.array4d(dtype=float),
):
    """Blend the attributes of a pixel's face corners; zero where no face is."""
    image, y, lane = wp.tid()
    image += first_image
    source = wp.min(image, attributes.shape[0] - 1)
    channels = attributes.shape[2]
    x = int(lane)
    while x < pix_to_face.shape[2]:
        face = pix_to_face[image, y, x]
        if face < 0:
            for channel in range(channels):
                values[image, y, x, channel] = 0.0
        else:
            corner = faces[face]
            bary = bary_coords[image, y, x]
            for channel in range(channels):
                values[image, y, x, channel] = (
                    bary[0] * attributes[source, corner[0], channel]
                    + bary[1] * attributes[source, corner[1], channel]
                    + bary[2] * attributes[source, corner[2], channel]
                )
        x += lanes
