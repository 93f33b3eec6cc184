"""A Ray cluster on this machine, a process of its own: prints its address; a line `add` on stdin adds a node.

    python tests/ray_nodes.py NODES

The head has no CPU, so that every trial runs on a node that can be lost. It ends with its stdin.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from ray.cluster_utils import Cluster

SMALL = {"object_store_memory": 80 * 2**20, "include_dashboard": False}


def main(nodes: int) -> None:
    folder = tempfile.mkdtemp(prefix="itm-", dir="/tmp")  # Ray's socket paths must stay short
    # Ray notes the address there, whatever temp_dir says; where it never ran the folder is absent
    Path("/tmp/ray").mkdir(exist_ok=True)
    cluster = Cluster(initialize_head=True, head_node_args={**SMALL, "num_cpus": 0, "temp_dir": folder})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1, **SMALL)
        sys.stdout.write(f"{cluster.address}\n")
        sys.stdout.flush()
        for _ in sys.stdin:
            cluster.add_node(num_cpus=1, **SMALL)
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
