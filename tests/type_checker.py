# SPDX-License-Identifier: Apache-2.0
"""The checker that tests run posefit's annotations with: beartype, an int being a float too."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
