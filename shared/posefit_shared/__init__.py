# SPDX-License-Identifier: Apache-2.0
"""What posefit's backend and its Blender extension must agree on; numpy and msgpack only.

Only `client` imports zmq, so everything else loads wherever numpy does.
"""

__version__ = "0.1.0"
