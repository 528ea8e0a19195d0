# SPDX-License-Identifier: Apache-2.0
"""Warp kernels of the solver's terms: rows of a frame's Jacobian in one pass.

The formulas are those of `terms.pixel_term` and `self_contact.self_penetration_term`, which say
where they come from; each is some seventy operations of torch there.
"""

from typing import no_type_check  # annotations are Warp's: no type checker knows them

import warp as wp

from . import warp_runtime  # noqa: F401  # starts Warp, quietly

wp.set_module_options({"enable_backward": False})


@wp.kernel
@no_type_check
def pixel_rows(
    positions: wp.array3d(dtype=float),
    arms: wp.array4d(dtype=float),
    shape_jacobian: wp.array4d(dtype=float),
    projection: wp.array3d(dtype=float),
    targets: wp.array3d(dtype=float),
    precision: wp.array2d(dtype=float),
    robust_scale: wp.array2d(dtype=float),
    min_depth: float,
    rows: wp.array4d(dtype=float),
    costs: wp.array2d(dtype=float),
):
    """Robust pull of a projected point towards a pixel; a thread a point.

    Args:
        positions: (frame, 3, point) world, metres.
        arms: (frame, joint, 3, point) lever about each joint.
        shape_jacobian: (frame, 3, beta, point) derivative by betas.
        projection: (frame, 3, 4) world to pixels.
        targets: (frame, 2, point) pixels.
        precision: (frame, point) 1 / px².
        robust_scale: (frame, point) pixels.
        min_depth: metres from which points count.
        rows: (frame, parameter and residual, 2, point); written.
        costs: (frame, point); written.
    """
    b, n = wp.tid()
    x = positions[b, 0, n]
    y = positions[b, 1, n]
    z = positions[b, 2, n]
    p0 = wp.vec3(projection[b, 0, 0], projection[b, 0, 1], projection[b, 0, 2])
    p1 = wp.vec3(projection[b, 1, 0], projection[b, 1, 1], projection[b, 1, 2])
    p2 = wp.vec3(projection[b, 2, 0], projection[b, 2, 1], projection[b, 2, 2])
    point = wp.vec3(x, y, z)
    depth = wp.dot(p2, point) + projection[b, 2, 3]
    inverse = 1.0 / wp.max(depth, min_depth)
    u = (wp.dot(p0, point) + projection[b, 0, 3]) * inverse
    v = (wp.dot(p1, point) + projection[b, 1, 3]) * inverse
    ru = u - targets[b, 0, n]
    rv = v - targets[b, 1, n]
    scale = robust_scale[b, n] * robust_scale[b, n]
    cost = scale
    root = 0.0
    first = wp.vec3(0.0, 0.0, 0.0)
    second = wp.vec3(0.0, 0.0, 0.0)
    if depth >= min_depth and wp.isfinite(ru) and wp.isfinite(rv):
        squared = ru * ru + rv * rv
        decay = 1.0 / (1.0 + squared / scale)
        cost = squared * decay
        root = wp.sqrt(precision[b, n] * decay * decay)
        first = (root * inverse) * (p0 - u * p2)
        second = (root * inverse) * (p1 - v * p2)
    else:
        ru = 0.0
        rv = 0.0
    costs[b, n] = precision[b, n] * cost
    joints = arms.shape[1]
    for j in range(joints):
        arm = wp.vec3(arms[b, j, 0, n], arms[b, j, 1, n], arms[b, j, 2, n])
        turned = wp.cross(arm, first)
        rows[b, 3 * j, 0, n] = turned[0]
        rows[b, 3 * j + 1, 0, n] = turned[1]
        rows[b, 3 * j + 2, 0, n] = turned[2]
        turned = wp.cross(arm, second)
        rows[b, 3 * j, 1, n] = turned[0]
        rows[b, 3 * j + 1, 1, n] = turned[1]
        rows[b, 3 * j + 2, 1, n] = turned[2]
    at = 3 * joints
    for k in range(3):
        rows[b, at + k, 0, n] = first[k]
        rows[b, at + k, 1, n] = second[k]
    at += 3
    betas = shape_jacobian.shape[2]
    for k in range(betas):
        moved = wp.vec3(
            shape_jacobian[b, 0, k, n], shape_jacobian[b, 1, k, n], shape_jacobian[b, 2, k, n]
        )
        rows[b, at + k, 0, n] = wp.dot(moved, first)
        rows[b, at + k, 1, n] = wp.dot(moved, second)
    rows[b, at + betas, 0, n] = ru * root
    rows[b, at + betas, 1, n] = rv * root


@wp.func
@no_type_check
def joint_at(joints: wp.array3d(dtype=float), b: int, joint: int) -> wp.vec3:
    """Where a joint is."""
    return wp.vec3(joints[b, joint, 0], joints[b, joint, 1], joints[b, joint, 2])


@wp.kernel
@no_type_check
def contact_rows(
    joints: wp.array3d(dtype=float),
    shape_jacobian: wp.array4d(dtype=float),
    is_below: wp.array2d(dtype=float),
    ends: wp.array2d(dtype=wp.int64),
    radii: wp.array(dtype=float),
    pairs: wp.array2d(dtype=wp.int64),
    allowed: wp.array2d(dtype=float),
    precision_root: float,
    rows: wp.array3d(dtype=float),
):
    """One-sided push out of what overlaps more than it may; a thread a pair of bones.

    Args:
        joints: (frame, joint, 3) world, metres.
        shape_jacobian: (frame, joint, 3, beta) derivative by betas.
        is_below: (joint, joint) 1 where the second is the first or hangs below it.
        ends: (bone, 2) joints.
        radii: (bone) metres.
        pairs: (pair, 2) bones.
        allowed: (frame, pair) overlap, metres.
        precision_root: 1 / m.
        rows: (frame, parameter and residual, pair); written.
    """
    b, pair = wp.tid()
    one = int(pairs[pair, 0])
    two = int(pairs[pair, 1])
    start = joint_at(joints, b, int(ends[one, 0]))
    other = joint_at(joints, b, int(ends[two, 0]))
    u = joint_at(joints, b, int(ends[one, 1])) - start
    v = joint_at(joints, b, int(ends[two, 1])) - other
    between = start - other
    a = wp.max(wp.dot(u, u), 1.0e-9)
    e = wp.max(wp.dot(v, v), 1.0e-9)
    uv = wp.dot(u, v)
    c = wp.dot(u, between)
    f = wp.dot(v, between)
    slack = a * e - uv * uv
    s = 0.0
    if slack > 1.0e-9:
        s = wp.clamp((uv * f - c * e) / slack, 0.0, 1.0)
    t = wp.clamp((uv * s + f) / e, 0.0, 1.0)
    s = wp.clamp((uv * t - c) / a, 0.0, 1.0)
    offset = between + s * u - t * v
    distance = wp.length(offset)
    direction = offset / wp.max(distance, 1.0e-6)
    excess = wp.max(radii[one] + radii[two] - distance - allowed[b, pair], 0.0)
    weight = 0.0
    if excess > 0.0:
        weight = precision_root
    count = joints.shape[1]
    betas = shape_jacobian.shape[3]
    at = 3 * count
    for row in range(at + 3 + betas):
        rows[b, row, pair] = 0.0
    rows[b, at + 3 + betas, pair] = excess * precision_root
    if weight > 0.0:
        # The depth falls as the first bone moves along `direction` and grows as the second does.
        shares = wp.vec4(s - 1.0, -s, 1.0 - t, t)
        for tip in range(4):
            bone = one
            if tip >= 2:
                bone = two
            along = (weight * shares[tip]) * direction
            joint = int(ends[bone, tip % 2])
            place = joint_at(joints, b, joint)
            for j in range(count):
                if is_below[j, joint] > 0.5:
                    turned = wp.cross(place - joint_at(joints, b, j), along)
                    for k in range(3):
                        rows[b, 3 * j + k, pair] += turned[k]
            for k in range(3):
                rows[b, at + k, pair] += along[k]
            for k in range(betas):
                moved = wp.vec3(
                    shape_jacobian[b, joint, 0, k],
                    shape_jacobian[b, joint, 1, k],
                    shape_jacobian[b, joint, 2, k],
                )
                rows[b, at + 3 + k, pair] += wp.dot(moved, along)
