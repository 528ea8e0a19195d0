# SPDX-License-Identifier: Apache-2.0
"""The paper's questions: what each modality, the texture, the start and the camera are worth.

`cases` holds people, pictures and starts; `looks` one look and the refinement from it; `twist` what
a turn about a bone's own axis is; `rows` bootstraps and the cache; `rendered` and `personal` ask
the questions of the two sets; `page` and `plots` write down what came out. The texture set is made
by `make_texture_set`.
"""
