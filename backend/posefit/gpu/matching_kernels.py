# SPDX-License-Identifier: Apache-2.0
"""Warp kernels of the correspondence network: what an update reads at the current flow.

Each is one pass over what it writes; in torch's operations the two are thirty and twenty passes.
"""

from typing import Any, no_type_check  # annotations are Warp's: no type checker knows them

import warp as wp

from . import warp_runtime  # noqa: F401  # starts Warp, quietly

wp.set_module_options({"enable_backward": False})


@wp.func
@no_type_check
def match_at(volume: wp.array3d(dtype=Any), b: int, query: int, x: int, y: int, w: int, h: int):
    """A query's correlation with a cell; 0 outside the picture."""
    if x < 0 or y < 0 or x >= w or y >= h:
        return 0.0
    return float(volume[b, query, y * w + x])


@wp.kernel
@no_type_check
def read_windows(
    volume: wp.array3d(dtype=Any),
    cells: wp.array2d(dtype=wp.int64),
    shows_body: wp.array2d(dtype=wp.bool),
    flow: wp.array4d(dtype=float),
    width: int,
    height: int,
    level: int,
    radius: int,
    first: int,
    taps: wp.array3d(dtype=Any),
):
    """A (2r+1)² window of each query about the place its flow points to, bilinear.

    Args:
        volume: (batch, query, cell) of this level.
        cells: (batch, query) cell of each query, of the finest level.
        shows_body: (batch, cell) whether a cell is anybody's; others are not read.
        flow: (batch, 2, rows, columns) in cells of the finest level.
        width: of this level's picture in cells.
        height: the same.
        level: 0 for the finest.
        radius: of the window in cells of this level.
        first: place of the window's first tap among all levels' taps.
        taps: (batch, cell, tap), zero before; written.
    """
    b, query, tap = wp.tid()
    cell = int(cells[b, query])
    if not shows_body[b, cell]:
        return
    columns = flow.shape[3]
    row = cell // columns
    column = cell - row * columns
    scale = 1.0 / float(1 << level)
    u = (float(column) + flow[b, 0, row, column] + 0.5) * scale - 0.5
    v = (float(row) + flow[b, 1, row, column] + 0.5) * scale - 0.5
    left = wp.floor(u)
    top = wp.floor(v)
    across = u - left
    down = v - top
    side = 2 * radius + 1
    j = tap // side
    x = int(left) + tap - j * side - radius
    y = int(top) + j - radius
    upper = (1.0 - across) * match_at(volume, b, query, x, y, width, height)
    upper += across * match_at(volume, b, query, x + 1, y, width, height)
    lower = (1.0 - across) * match_at(volume, b, query, x, y + 1, width, height)
    lower += across * match_at(volume, b, query, x + 1, y + 1, width, height)
    taps[b, cell, first + tap] = taps.dtype((1.0 - down) * upper + down * lower)


@wp.func
@no_type_check
def color_at(image: wp.array4d(dtype=float), b: int, x: int, y: int) -> wp.vec3:
    """A pixel of the crop; zero outside."""
    if x < 0 or y < 0 or x >= image.shape[3] or y >= image.shape[2]:
        return wp.vec3(0.0, 0.0, 0.0)
    return wp.vec3(image[b, 0, y, x], image[b, 1, y, x], image[b, 2, y, x])


@wp.func
@no_type_check
def flow_at(flow: wp.array4d(dtype=float), b: int, x: int, y: int) -> wp.vec2:
    """The flow of a cell, cells."""
    return wp.vec2(flow[b, 0, y, x], flow[b, 1, y, x])


@wp.kernel
@no_type_check
def carry_cells(
    image: wp.array4d(dtype=float),
    texture: wp.array4d(dtype=float),
    flow: wp.array4d(dtype=float),
    stride: int,
    cells: wp.array3d(dtype=Any),
):
    """The frame carried back by the flow beside the rendered texture, the pixels of a cell
    gathered; a thread a pixel.

    Args:
        image: (batch, 3, height, width) frame crops about zero.
        texture: (batch, 4, height, width) rendered texture about zero, and where it is known.
        flow: (batch, 2, rows, columns) in cells.
        stride: pixels of a cell.
        cells: (batch, cell, 7 · stride²): carried colour, its difference from the texture, and
            where that is known, each for all pixels of the cell; written.
    """
    b, y, x = wp.tid()
    size = float(stride)
    columns = flow.shape[3]
    rows = flow.shape[2]
    # Bilinear between cells' middles, the outermost held: torch's `interpolate`.
    u = wp.max((float(x) + 0.5) / size - 0.5, 0.0)
    v = wp.max((float(y) + 0.5) / size - 0.5, 0.0)
    left = wp.min(int(u), columns - 1)
    top = wp.min(int(v), rows - 1)
    right = wp.min(left + 1, columns - 1)
    bottom = wp.min(top + 1, rows - 1)
    across = u - float(left)
    down = v - float(top)
    upper = (1.0 - across) * flow_at(flow, b, left, top) + across * flow_at(flow, b, right, top)
    lower = (1.0 - across) * flow_at(flow, b, left, bottom)
    lower += across * flow_at(flow, b, right, bottom)
    moved = size * ((1.0 - down) * upper + down * lower)
    at_x = float(x) + moved[0]
    at_y = float(y) + moved[1]
    known = texture[b, 3, y, x]
    place = stride * (y % stride) + x % stride
    area = stride * stride
    cell = (y // stride) * columns + x // stride
    near_x = wp.floor(at_x)
    near_y = wp.floor(at_y)
    share_x = at_x - near_x
    share_y = at_y - near_y
    i = int(near_x)
    j = int(near_y)
    above = (1.0 - share_x) * color_at(image, b, i, j) + share_x * color_at(image, b, i + 1, j)
    below = (1.0 - share_x) * color_at(image, b, i, j + 1)
    below += share_x * color_at(image, b, i + 1, j + 1)
    color = (1.0 - share_y) * above + share_y * below
    for channel in range(3):
        carried = color[channel] * known
        apart = (color[channel] - texture[b, channel, y, x]) * known
        cells[b, cell, channel * area + place] = cells.dtype(carried)
        cells[b, cell, (3 + channel) * area + place] = cells.dtype(apart)
    cells[b, cell, 6 * area + place] = cells.dtype(known)


@wp.kernel
@no_type_check
def upsample(
    values: wp.array4d(dtype=float),
    weights: wp.array4d(dtype=Any),
    stride: int,
    temperature: float,
    fine: wp.array4d(dtype=float),
):
    """Each fine pixel a weighted mean of the 3×3 cells around its own; a thread a pixel.

    Args:
        values: (batch, channel, rows, columns).
        weights: (batch, 9 · stride², rows, columns) logits: neighbours, then the cell's pixels.
        stride: pixels of a cell.
        temperature: multiplies the logits.
        fine: (batch, channel, height, width); written.
    """
    b, y, x = wp.tid()
    rows = values.shape[2]
    columns = values.shape[3]
    row = y // stride
    column = x // stride
    area = stride * stride
    place = stride * (y % stride) + x % stride
    most = float(-wp.inf)
    for k in range(9):
        most = wp.max(most, temperature * float(weights[b, k * area + place, row, column]))
    total = float(0.0)  # noqa: UP018  # Warp: a number that changes in a loop
    for k in range(9):
        total += wp.exp(temperature * float(weights[b, k * area + place, row, column]) - most)
    for channel in range(values.shape[1]):
        mean = float(0.0)  # noqa: UP018
        for k in range(9):
            share = wp.exp(temperature * float(weights[b, k * area + place, row, column]) - most)
            i = wp.clamp(row + k // 3 - 1, 0, rows - 1)
            j = wp.clamp(column + k % 3 - 1, 0, columns - 1)
            mean += share * values[b, channel, i, j]
        fine[b, channel, y, x] = mean / total
