# SPDX-License-Identifier: Apache-2.0
"""What keeps a GPU busy and its memory bounded; nothing here knows of bodies or pictures.

`graphs` records functions of tensors and replays them, `upload` brings arrays to a device without
waiting for it, `memory` says how much may be taken and gives it back, `warp_runtime` launches
kernels on torch's memory. On a machine without a GPU all of it does next to nothing.
"""
