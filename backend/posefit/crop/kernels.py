# SPDX-License-Identifier: Apache-2.0
"""The Warp kernel that samples crops: a thread a crop pixel, for all crops of a batch."""

from typing import no_type_check  # annotations are Warp's: no type checker knows them

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.func
@no_type_check
def pixel_at(pixels: wp.array3d(dtype=wp.uint8), x: int, y: int) -> wp.vec3:
    """A pixel's colour, 0 to 255; black outside the picture."""
    if x < 0 or y < 0 or x >= pixels.shape[1] or y >= pixels.shape[0]:
        return wp.vec3(0.0, 0.0, 0.0)
    return wp.vec3(float(pixels[y, x, 0]), float(pixels[y, x, 1]), float(pixels[y, x, 2]))


@wp.func
@no_type_check
def between_pixels(pixels: wp.array3d(dtype=wp.uint8), u: float, v: float) -> wp.vec3:
    """The colour at a place counted from pixel centres, bilinear between the four around it."""
    inside = u > -1.0 and v > -1.0 and u < float(pixels.shape[1]) and v < float(pixels.shape[0])
    if not inside:  # nor if the lens made it a number that no int holds
        return wp.vec3(0.0, 0.0, 0.0)
    left = wp.floor(u)
    top = wp.floor(v)
    across = u - left
    down = v - top
    x = int(left)
    y = int(top)
    upper = (1.0 - across) * pixel_at(pixels, x, y) + across * pixel_at(pixels, x + 1, y)
    lower = (1.0 - across) * pixel_at(pixels, x, y + 1) + across * pixel_at(pixels, x + 1, y + 1)
    return (1.0 - down) * upper + down * lower


@wp.kernel
@no_type_check
def sample_crops(
    sources: wp.array2d(dtype=wp.int64),
    table: wp.array2d(dtype=wp.float64),
    images: wp.array4d(dtype=float),
):
    """Mean colour of each crop pixel's area, seen through the lens.

    Args:
        sources: the table's first columns as whole numbers: the address of the crop's picture,
            (H, W, 3) bytes; H; W; how many samples are taken along a crop pixel's side.
        table: for each crop, after those four, the ideal image-plane point of its corner (2), what
            a crop pixel to the right and one down add to it (4), the lens's k1 k2 p1 p2 k3, and
            what takes a distorted point to the picture's pixels, counted from centres (4 and 2).
        images: (crop, 3, size, size), 0 to 1; written.
    """
    crop, row, column = wp.tid()
    height = int(sources[crop, 1])
    width = int(sources[crop, 2])
    samples = int(sources[crop, 3])
    pixels = wp.array(ptr=wp.uint64(sources[crop, 0]), shape=(height, width, 3), dtype=wp.uint8)
    corner_x = float(table[crop, 4])
    corner_y = float(table[crop, 5])
    right_x = float(table[crop, 6])
    down_x = float(table[crop, 7])
    right_y = float(table[crop, 8])
    down_y = float(table[crop, 9])
    k1 = float(table[crop, 10])
    k2 = float(table[crop, 11])
    p1 = float(table[crop, 12])
    p2 = float(table[crop, 13])
    k3 = float(table[crop, 14])
    total = wp.vec3(0.0, 0.0, 0.0)
    spacing = 1.0 / float(samples)
    for j in range(samples):
        at_y = float(row) + (float(j) + 0.5) * spacing
        for i in range(samples):
            at_x = float(column) + (float(i) + 0.5) * spacing
            x = corner_x + right_x * at_x + down_x * at_y
            y = corner_y + right_y * at_x + down_y * at_y
            # posefit_shared.frames.distort_points
            r2 = x * x + y * y
            radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
            bent_x = x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x)
            bent_y = y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y
            u = float(table[crop, 15]) * bent_x + float(table[crop, 16]) * bent_y
            v = float(table[crop, 17]) * bent_x + float(table[crop, 18]) * bent_y
            u += float(table[crop, 19])
            v += float(table[crop, 20])
            total += between_pixels(pixels, u, v)
    total *= 1.0 / (255.0 * float(samples * samples))
    for channel in range(3):
        images[crop, channel, row, column] = total[channel]
