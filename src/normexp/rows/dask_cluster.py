"""The cluster that Dask works on: whether there is one, whether it has workers, and what is said when it fails."""

import sys
from typing import Any

from normexp.base.errors import ClusterError


def client_of_process() -> Any:
    """The default client of a cluster, or None: then Dask's threads in this process do the work."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.get_client()
    except ValueError:
        return None


def n_workers(client: Any) -> int:
    """How many workers a cluster has; none where it does not answer."""
    try:
        return len(client.nthreads())
    except (OSError, RuntimeError, TimeoutError):
        return 0


def cluster_error(error: Exception, doing: str) -> ClusterError:
    """Say what the cluster failed at, and why."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return ClusterError(
        f"SoftmaxClassifier.fit: the Dask cluster failed while {doing} ({type(error).__name__}: {reason[:200]}); see "
        "that its workers live and can compute X, and fit again (with checkpoint= a fit goes on where it was)."
    )
