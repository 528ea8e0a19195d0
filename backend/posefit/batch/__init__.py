# SPDX-License-Identifier: Apache-2.0
"""Many refinements: a table or a folder of jobs, run by processes that may die, and gone on with.

`jobs` says what is to be done, `folder` and `journal` what has been; `runner` hands jobs to an
executor (`local_processes`, or `ray_tasks` for a cluster), and `page` shows what came out.
"""

from .jobs import BatchError, Job, read_jobs

__all__ = ["BatchError", "Job", "read_jobs"]
