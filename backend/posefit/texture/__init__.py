# SPDX-License-Identifier: Apache-2.0
"""Personal texture: what one person's surface looks like, painted from frames by their estimates.

`texels` knows where each texel lies on the body, `observation` what one frame shows of it, and
`merging` how frames become one map. The trap: a map painted by the frame that it is compared with
shows exactly that frame, however wrong its pose. So the map for a frame is merged from frames that
do not share its error, and `texture_clip` says which.
"""

from .merging import TexturePainter
from .observation import SurfaceColors, observe_surface
from .texels import TexelGrid, texel_grid
from .texture_map import Texture, TextureError, load_png, save_png, uv_hash

__all__ = [
    "SurfaceColors",
    "TexelGrid",
    "Texture",
    "TextureError",
    "TexturePainter",
    "load_png",
    "observe_surface",
    "save_png",
    "texel_grid",
    "uv_hash",
]
