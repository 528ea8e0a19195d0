# SPDX-License-Identifier: Apache-2.0
"""A stand-in for posefit's rasterizer on machines that train, have CuPy and lack Warp.

Same two functions, same meaning: `python -m posefit.training --rasterizer cupy_rasterizer …` with
this folder on `PYTHONPATH`. Differences that don't matter in training: faces that reach nearer than
5 cm are dropped whole, and shared edges are decided in float32 screen space.
"""

from __future__ import annotations

from typing import NamedTuple

import cupy
import torch
from torch import Tensor

from posefit.training.drawing import Drawn

SOURCE = r"""
struct Corner { float x, y, z; };
__device__ Corner corner(const float* v, const float* k, int index) {
  const float z = v[3 * index + 2];
  Corner c;
  c.z = z;
  c.x = k[0] * v[3 * index] / z + k[2];
  c.y = k[4] * v[3 * index + 1] / z + k[5];
  return c;
}
__device__ bool inside(Corner a, Corner b, Corner c, float px, float py, float* w) {
  const float area = (b.x - a.x) * (c.y - a.y) - (c.x - a.x) * (b.y - a.y);
  if (fabsf(area) < 1e-9f) return false;
  w[0] = ((b.x - px) * (c.y - py) - (c.x - px) * (b.y - py)) / area;
  w[1] = ((c.x - px) * (a.y - py) - (a.x - px) * (c.y - py)) / area;
  w[2] = 1.f - w[0] - w[1];
  return w[0] >= 0.f && w[1] >= 0.f && w[2] >= 0.f;
}
extern "C" __global__ void draw(const float* vertices, const int* faces, const float* intrinsics,
    const unsigned char* on, unsigned long long* keys, int B, int V, int F, int H, int W) {
  const long long t = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (t >= (long long)B * F) return;
  const int b = t / F, f = t - (long long)b * F;
  if (on && !on[t]) return;
  const float* v = vertices + 3LL * b * V;
  const float* k = intrinsics + 9 * b;
  for (int i = 0; i < 3; ++i) if (!(v[3 * faces[3 * f + i] + 2] > 0.05f)) return;
  const Corner p0 = corner(v, k, faces[3 * f]), p1 = corner(v, k, faces[3 * f + 1]),
               p2 = corner(v, k, faces[3 * f + 2]);
  const int x0 = max(0, (int)ceilf(fminf(p0.x, fminf(p1.x, p2.x)) - 0.5f));
  const int x1 = min(W - 1, (int)floorf(fmaxf(p0.x, fmaxf(p1.x, p2.x)) - 0.5f));
  const int y0 = max(0, (int)ceilf(fminf(p0.y, fminf(p1.y, p2.y)) - 0.5f));
  const int y1 = min(H - 1, (int)floorf(fmaxf(p0.y, fmaxf(p1.y, p2.y)) - 0.5f));
  float w[3];
  for (int y = y0; y <= y1; ++y) for (int x = x0; x <= x1; ++x)
    if (inside(p0, p1, p2, x + 0.5f, y + 0.5f, w)) {
      const float z = 1.f / (w[0] / p0.z + w[1] / p1.z + w[2] / p2.z);
      const unsigned long long key = ((unsigned long long)__float_as_uint(z) << 32) | (unsigned)f;
      atomicMin(keys + ((long long)b * H + y) * W + x, key);
    }
}
extern "C" __global__ void resolve(const float* vertices, const int* faces,
    const float* intrinsics, const unsigned long long* keys, int* ids, float* bary, float* depth,
    int B, int V, int F, int H, int W) {
  const long long t = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (t >= (long long)B * H * W) return;
  const int b = t / (H * W), r = t - (long long)b * H * W, y = r / W, x = r - y * W;
  const unsigned long long key = keys[t];
  float w[3] = {0.f, 0.f, 0.f};
  ids[t] = -1; depth[t] = -1.f;
  if (key < 0x7f00000000000000ULL) {
    const int f = (int)(key & 0xffffffffULL);
    const float* v = vertices + 3LL * b * V;
    const float* k = intrinsics + 9 * b;
    const Corner p0 = corner(v, k, faces[3 * f]), p1 = corner(v, k, faces[3 * f + 1]),
                 p2 = corner(v, k, faces[3 * f + 2]);
    inside(p0, p1, p2, x + 0.5f, y + 0.5f, w);
    w[0] /= p0.z; w[1] /= p1.z; w[2] /= p2.z;
    const float z = 1.f / (w[0] + w[1] + w[2]);
    w[0] *= z; w[1] *= z; w[2] *= z;
    ids[t] = f; depth[t] = z;
  }
  bary[3 * t] = w[0]; bary[3 * t + 1] = w[1]; bary[3 * t + 2] = w[2];
}
extern "C" __global__ void mix(const float* attributes, const int* faces, const int* ids,
    const float* bary, float* out, int B, int V, int C, int N, int shared) {
  const long long t = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (t >= (long long)B * N) return;
  const int b = t / N, f = ids[t];
  float* o = out + t * C;
  if (f < 0) { for (int c = 0; c < C; ++c) o[c] = 0.f; return; }
  const float* a = attributes + (shared ? 0LL : (long long)b * V * C);
  const float *a0 = a + (long long)faces[3 * f] * C, *a1 = a + (long long)faces[3 * f + 1] * C,
              *a2 = a + (long long)faces[3 * f + 2] * C;
  const float w0 = bary[3 * t], w1 = bary[3 * t + 1], w2 = bary[3 * t + 2];
  for (int c = 0; c < C; ++c) o[c] = w0 * a0[c] + w1 * a1[c] + w2 * a2[c];
}
"""

_FACES: dict[int, Tensor] = {}


class _Stream(NamedTuple):
    ptr: int


def _launch(name: str, count: int, *arguments: object) -> None:
    kernel = _KERNELS[name]
    stream = _Stream(torch.cuda.current_stream().cuda_stream)
    values = tuple(
        cupy.int32(a) if isinstance(a, int) else (0 if a is None else a.data_ptr())  # type: ignore
        for a in arguments
    )
    kernel(grid=((count + 255) // 256, 1, 1), block=(256, 1, 1), args=values, stream=stream)


class _Kernels(dict):
    """Compiled on first use, once for each device (processes here use one device)."""

    def __missing__(self, name: str) -> object:
        module = cupy.RawModule(code=SOURCE)
        for key in ("draw", "resolve", "mix"):
            self[key] = module.get_function(key)
        return self[name]


_KERNELS = _Kernels()


def _faces(faces: Tensor) -> Tensor:
    """The faces as contiguous int32, converted once."""
    if faces.dtype == torch.int32 and faces.is_contiguous():
        return faces
    key = faces.data_ptr()
    if key not in _FACES:
        _FACES[key] = faces.to(torch.int32).contiguous()
    return _FACES[key]


def rasterize(
    vertices_camera: Tensor,
    faces: Tensor,
    intrinsics: Tensor,
    image_size: tuple[int, int],
    *,
    face_mask: Tensor | None = None,
) -> Drawn:
    """Which face each pixel shows; see `posefit.rasterizer.rasterize`."""
    batch, count, _ = vertices_camera.shape
    height, width = image_size
    faces, device = _faces(faces), vertices_camera.device
    vertices = vertices_camera.detach().float().contiguous()
    cameras = intrinsics.float().contiguous()
    shown = None if face_mask is None else face_mask.to(torch.uint8).contiguous()
    shape = (batch, height, width)
    keys = torch.full(shape, 0x7FFFFFFFFFFFFFFF, dtype=torch.int64, device=device)
    ids = torch.empty(shape, dtype=torch.int32, device=device)
    bary = torch.empty(*shape, 3, device=device)
    depth = torch.empty(shape, device=device)
    sizes = (batch, count, len(faces), height, width)
    _launch("draw", batch * len(faces), vertices, faces, cameras, shown, keys, *sizes)
    _launch(
        "resolve", batch * height * width, vertices, faces, cameras, keys, ids, bary, depth, *sizes
    )
    return Drawn(ids, bary, depth)


def interpolate(fragments: Drawn, faces: Tensor, attributes: Tensor) -> Tensor:
    """Attributes at pixels; see `posefit.rasterizer.interpolate`."""
    batch, height, width = fragments.pix_to_face.shape
    attributes = attributes.detach().float()
    shared = attributes.ndim == 2 or attributes.shape[0] == 1
    attributes = attributes.contiguous()
    vertices, channels = attributes.shape[-2:]
    out = torch.empty(batch, height, width, channels, device=attributes.device)
    _launch(
        "mix", batch * height * width, attributes, _faces(faces), fragments.pix_to_face,
        fragments.bary_coords, out, batch, vertices, channels, height * width, int(shared),
    )  # fmt: skip
    return out
