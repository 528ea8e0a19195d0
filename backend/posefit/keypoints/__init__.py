# SPDX-License-Identifier: Apache-2.0
"""A person's landmarks, from pictures to evidence.

`blazepose` runs the networks, `detection` follows one person through footage, `sides` and
`steadiness` mend what a detector gets wrong, `tracks` keeps what was found, `evidence` tells the
solver.
"""
