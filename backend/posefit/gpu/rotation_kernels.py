# SPDX-License-Identifier: Apache-2.0
"""Warp kernels of rotation vectors and matrices: a thread a rotation.

The formulas are those of `posefit.rotations` and `posefit.solver.rotation_vectors`, which say where
they come from. There each is some forty passes over memory, here one.
"""

from typing import no_type_check  # annotations are Warp's: no type checker knows them

import warp as wp

from . import warp_runtime  # noqa: F401  # starts Warp, quietly

wp.set_module_options({"enable_backward": False})


@wp.func
@no_type_check
def cross_matrix_of(v: wp.vec3) -> wp.mat33:
    """The matrix whose product with a point is the cross product with it."""
    return wp.mat33(0.0, -v[2], v[1], v[2], 0.0, -v[0], -v[1], v[0], 0.0)


@wp.func
@no_type_check
def identity_matrix() -> wp.mat33:
    """The 3×3 identity."""
    return wp.mat33(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@wp.kernel
@no_type_check
def vectors_to_matrices(vectors: wp.array(dtype=wp.vec3), matrices: wp.array(dtype=wp.mat33)):
    """Rotation matrices of rotation vectors (radians)."""
    thread = wp.tid()
    vector = vectors[thread]
    s = wp.dot(vector, vector)
    sine = 1.0
    cosine = 0.5
    if s < 0.02:
        sine = 1.0 - s / 6.0 * (1.0 - s / 20.0 * (1.0 - s / 42.0 * (1.0 - s / 72.0)))
        cosine = 0.5 - s / 24.0 * (1.0 - s / 30.0 * (1.0 - s / 56.0 * (1.0 - s / 90.0)))
    else:
        angle = wp.sqrt(s)
        half = wp.sin(angle / 2.0) / angle
        sine = wp.sin(angle) / angle
        cosine = 2.0 * half * half
    cross = cross_matrix_of(vector)
    matrices[thread] = identity_matrix() + sine * cross + cosine * (cross * cross)


@wp.kernel
@no_type_check
def matrices_to_vectors(matrices: wp.array(dtype=wp.mat33), vectors: wp.array(dtype=wp.vec3)):
    """Rotation vectors (radians, at most π long) of rotation matrices, by Shepperd's quaternion."""
    thread = wp.tid()
    m = matrices[thread]
    w = 1.0 + m[0, 0] + m[1, 1] + m[2, 2]
    x = 1.0 + m[0, 0] - m[1, 1] - m[2, 2]
    y = 1.0 - m[0, 0] + m[1, 1] - m[2, 2]
    z = 1.0 - m[0, 0] - m[1, 1] + m[2, 2]
    real = w
    imaginary = wp.vec3(m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1])
    if z > wp.max(w, wp.max(x, y)):
        real = m[1, 0] - m[0, 1]
        imaginary = wp.vec3(m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], z)
    elif y > wp.max(w, x):
        real = m[0, 2] - m[2, 0]
        imaginary = wp.vec3(m[0, 1] + m[1, 0], y, m[1, 2] + m[2, 1])
    elif x > w:
        real = m[2, 1] - m[1, 2]
        imaginary = wp.vec3(x, m[0, 1] + m[1, 0], m[0, 2] + m[2, 0])
    length = wp.sqrt(real * real + wp.dot(imaginary, imaginary))
    if real < 0.0:
        length = -length
    real = real / length
    imaginary = imaginary / length
    s = wp.dot(imaginary, imaginary)
    inner = 1.0 + s * 25.0 / 42.0 * (1.0 + s * 49.0 / 72.0)
    factor = 2.0 + s / 3.0 * (1.0 + s * 9.0 / 20.0 * inner)
    if not s < 1.0e-3:
        sine = wp.sqrt(s)
        factor = 2.0 * wp.atan2(sine, real) / sine
    vectors[thread] = factor * imaginary


@wp.kernel
@no_type_check
def inverse_left_jacobians(vectors: wp.array(dtype=wp.vec3), matrices: wp.array(dtype=wp.mat33)):
    """I − ½ [φ] + (1 − (φ/2) cot(φ/2)) / φ² [φ]² of rotation vectors φ (radians)."""
    thread = wp.tid()
    vector = vectors[thread]
    s = wp.dot(vector, vector)
    factor = 1.0 / 12.0 + s / 720.0 + s * s / 30240.0
    if not s < 1.0e-3:
        half = wp.sqrt(s) / 2.0
        factor = (1.0 - half * wp.cos(half) / wp.sin(half)) / s
    cross = cross_matrix_of(vector)
    matrices[thread] = identity_matrix() - 0.5 * cross + factor * (cross * cross)
