# SPDX-License-Identifier: Apache-2.0
"""Whether a result is better than what came in: step 5 of the method.

`judge` gathers `signs` of each frame, `gate` makes steps of them, `acceptance` takes the steps.
"""
