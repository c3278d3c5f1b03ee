"""`python -m tests.ray.nodes`: a cluster of two nodes with a core each, until standard input ends.

It prints its address; at the first line of input, the second node is killed.
"""

import sys

from ray.cluster_utils import Cluster

from benchmarks.ray_cluster import OBJECT_STORE, kill


def main() -> None:
    cluster = Cluster()
    try:
        nodes = [
            cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE, include_dashboard=False) for _ in range(2)
        ]
        print(cluster.address, flush=True)
        if sys.stdin.readline():
            kill(cluster, nodes[1])
            print("killed", flush=True)
            sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
