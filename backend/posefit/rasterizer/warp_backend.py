# SPDX-License-Identifier: Apache-2.0
"""Launches of the Warp kernels, on the current CUDA stream or over the CPU's threads.

Torch's memory is used in place. Warp runs a CPU launch in one thread, so a batch is cut into runs
of images, and a small one into runs of faces with a depth buffer each, one for every torch thread.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import warp as wp
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from ..gpu.warp_runtime import launch, warp_array
from . import kernels
from .fragments import Fragments

__all__ = ["accumulate_warp", "interpolate_warp", "rasterize_warp"]

_CUDA_THREADS = 1 << 18
"""Threads that fill a large GPU: faces of a small batch get several threads each."""
_MOST_LANES = 256
"""Threads that share one face, at most."""
_FACES_WORTH_A_THREAD = 2048
"""A CPU thread takes longer to start than to draw this many faces."""

Run = tuple[int, int]
"""First item and number of items."""


def rasterize_warp(
    vertices_camera: Float[Tensor, "batch vertex 3"],
    faces: Int[Tensor, "face 3"],
    intrinsics: Float[Tensor, "batch 3 3"],
    image_size: tuple[int, int],
    face_mask: Bool[Tensor, "#batch face"] | None,
    near: float,
) -> Fragments:
    """`rasterize` by a depth buffer of 64-bit atomics; see the package for the contract."""
    device = vertices_camera.device
    shape = (len(vertices_camera), *image_size)
    fragments = Fragments(
        torch.empty(shape, dtype=torch.int32, device=device),
        torch.empty((*shape, 3), device=device),
        torch.empty(shape, device=device),
    )
    if fragments.pix_to_face.numel() == 0:
        return fragments
    if len(faces) == 0 or vertices_camera.shape[1] == 0:
        for field in (fragments.pix_to_face, fragments.bary_coords, fragments.zbuf):
            field.fill_(-1)
        return fragments
    if face_mask is None:
        face_mask = torch.empty((0, 0), dtype=torch.bool, device=device)
    mesh = (
        vertices_camera.detach().float().contiguous(),
        faces.to(torch.int32).contiguous(),
        intrinsics.detach().float().contiguous(),
    )
    draw = _draw_on_cuda if device.type == "cuda" else _draw_on_cpu
    draw(mesh, face_mask.contiguous(), near, fragments)
    return fragments


def interpolate_warp(
    fragments: Fragments,
    faces: Int[Tensor, "face 3"],
    attributes: Float[Tensor, "#batch vertex channel"],
) -> Float[Tensor, "batch height width channel"]:
    """`interpolate`; see the package for the contract."""
    device = fragments.pix_to_face.device
    batch, height, width = fragments.pix_to_face.shape
    values = torch.empty((batch, height, width, attributes.shape[-1]), device=device)
    if values.numel() == 0 or len(faces) == 0:
        return values.zero_()
    pix_to_face, bary_coords = (
        fragments.pix_to_face.contiguous(),
        fragments.bary_coords.contiguous(),
    )
    faces, attributes = faces.to(torch.int32).contiguous(), attributes.detach().float().contiguous()
    inputs = (
        warp_array(pix_to_face, wp.int32),
        warp_array(bary_coords, wp.vec3),
        warp_array(faces, wp.vec3i),
        warp_array(attributes, wp.float32),
    )
    output = warp_array(values, wp.float32)

    def blend(images: Run, lanes: int) -> None:
        threads = (images[1], height, lanes)
        launch(kernels.interpolate_pixels, device, threads, *inputs, images[0], lanes, output)

    if device.type == "cuda":
        blend((0, batch), width)
    else:
        threads = torch.get_num_threads()
        _over_threads(lambda thread, run: blend(run, 1), _runs(batch, 2 * threads), threads)
    return values


def accumulate_warp(
    fragments: Fragments,
    faces: Int[Tensor, "face 3"],
    num_vertices: int,
    values: Float[Tensor, "batch height width channel"],
    counts: Bool[Tensor, "batch height width"],
) -> Float64[Tensor, "batch vertex channel"]:
    """`accumulate` on a GPU; see the package for the contract."""
    device, shape = values.device, (len(values), num_vertices, values.shape[-1])
    sums = torch.zeros(shape, dtype=torch.float64, device=device)
    if values.numel() == 0 or len(faces) == 0:
        return sums
    pix_to_face = fragments.pix_to_face.contiguous()
    bary_coords, faces = fragments.bary_coords.contiguous(), faces.to(torch.int32).contiguous()
    values, counts = values.detach().float().contiguous(), counts.contiguous()
    launch(
        kernels.accumulate_pixels,
        device,
        tuple(pix_to_face.shape),
        warp_array(pix_to_face, wp.int32),
        warp_array(bary_coords, wp.vec3),
        warp_array(faces, wp.vec3i),
        warp_array(values, wp.float32),
        warp_array(counts, wp.bool),
        warp_array(sums, wp.float64),
    )
    return sums


def _draw_on_cuda(
    mesh: tuple[Tensor, Tensor, Tensor], face_mask: Tensor, near: float, fragments: Fragments
) -> None:
    """Three launches: fill the depth buffer, draw, resolve."""
    device, shape = mesh[0].device, fragments.pix_to_face.shape
    keys = torch.full(shape, kernels.EMPTY_KEY, dtype=torch.int64, device=device)
    keys_array, mesh_arrays = warp_array(keys, wp.int64), _mesh_arrays(mesh)
    num_faces = len(mesh[1])
    lanes = _lanes(shape[0] * num_faces)
    threads = (shape[0], num_faces, lanes[0] * lanes[1])
    options = (warp_array(face_mask, wp.bool), near, 0, 0, 1, *lanes, 0, keys_array)
    launch(kernels.draw_faces, device, threads, *mesh_arrays, *options)
    options = (keys_array, 1, 0, 0, shape[2], *_outputs(fragments))
    launch(kernels.resolve_pixels, device, tuple(shape), *mesh_arrays, *options)


def _draw_on_cpu(
    mesh: tuple[Tensor, Tensor, Tensor], face_mask: Tensor, near: float, fragments: Fragments
) -> None:
    """Images side by side; where there are fewer than threads, faces and then rows of them."""
    device = mesh[0].device
    batch, height, width = fragments.pix_to_face.shape
    num_faces, threads = len(mesh[1]), torch.get_num_threads()
    layers = min(threads, 1 + num_faces // _FACES_WORTH_A_THREAD) if batch < threads else 1
    keys = torch.full((layers * batch, height, width), kernels.EMPTY_KEY, dtype=torch.int64)
    keys_array, mask_array = warp_array(keys, wp.int64), warp_array(face_mask, wp.bool)
    mesh_arrays, outputs = _mesh_arrays(mesh), _outputs(fragments)

    def draw(layer: int, images: Run, faces: Run) -> None:
        options = (mask_array, near, images[0], *faces, 1, 1, layer * batch + images[0], keys_array)
        launch(kernels.draw_faces, device, (images[1], 1, 1), *mesh_arrays, *options)

    def resolve(images: Run, rows: Run) -> None:
        options = (keys_array, layers, images[0], rows[0], 1, *outputs)
        launch(kernels.resolve_pixels, device, (images[1], rows[1], 1), *mesh_arrays, *options)

    def draw_images(thread: int, images: Run) -> None:
        draw(0, images, (0, num_faces))
        resolve(images, (0, height))

    if layers == 1:
        _over_threads(draw_images, _runs(batch, 2 * threads), threads)
        return
    # each thread has a depth buffer of its own: Warp's CPU atomics are not atomic across launches
    everything, parts = (0, batch), 2 * layers
    _over_threads(
        lambda thread, faces: draw(thread, everything, faces), _runs(num_faces, parts), layers
    )
    _over_threads(lambda thread, rows: resolve(everything, rows), _runs(height, parts), layers)


def _mesh_arrays(mesh: tuple[Tensor, Tensor, Tensor]) -> tuple[Any, Any, Any]:
    points, faces, intrinsics = mesh
    return (
        warp_array(points, wp.vec3),
        warp_array(faces, wp.vec3i),
        warp_array(intrinsics, wp.mat33),
    )


def _outputs(fragments: Fragments) -> tuple[Any, Any, Any]:
    return (
        warp_array(fragments.pix_to_face, wp.int32),
        warp_array(fragments.bary_coords, wp.vec3),
        warp_array(fragments.zbuf, wp.float32),
    )


def _lanes(num_faces: int) -> tuple[int, int]:
    """Threads across and down that share a face's box: as many as a GPU has room for."""
    lanes = 1
    while lanes < _MOST_LANES and 2 * lanes * num_faces <= _CUDA_THREADS:
        lanes *= 2
    across = 1 << (lanes.bit_length() // 2)
    return across, lanes // across


def _runs(count: int, parts: int) -> list[Run]:
    """Cut `count` items into at most `parts` runs of nearly equal length, none of them empty."""
    bounds = [count * i // parts for i in range(parts + 1)]
    return [(a, b - a) for a, b in zip(bounds, bounds[1:], strict=False) if b > a]


@functools.cache
def _pool(pid: int) -> ThreadPoolExecutor:
    """One for each process, so that a fork starts threads of its own."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix=f"rasterizer-{pid}")


@functools.cache
def _load_cpu_kernels() -> None:
    """Compile before threads ask for it at the same time."""
    wp.load_module(kernels, device="cpu")


def _over_threads(work: Callable[[int, Run], None], runs: list[Run], threads: int) -> None:
    """Work through the runs with this thread and helpers; returns when all are done.

    Whoever is free takes the next run, and helpers that have not begun are not waited for: on a
    busy machine this thread does everything itself and loses nothing.

    Args:
        work: called with the number of the thread that does it, below `threads`, and the run.
        runs: taken from the front.
        threads: how many may work at once, this one included.
    """
    _load_cpu_kernels()
    waiting = deque(runs)

    def take(thread: int) -> None:
        while waiting:
            try:
                run = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            work(thread, run)

    pool = _pool(os.getpid())
    helpers = [pool.submit(take, k) for k in range(1, min(threads, len(runs)))]
    take(0)
    for helper in helpers:
        if not helper.cancel():
            helper.result()
