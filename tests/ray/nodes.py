"""`python -m tests.ray.nodes`: a cluster of two nodes with a core each, until standard input ends.

It prints its address; at the first line of input, the second node is killed.
"""

import sys

from ray.cluster_utils import Cluster

OBJECT_STORE = 80 * 2**20  # bytes


def main() -> None:
    cluster = Cluster()
    try:
        nodes = [
            cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE, include_dashboard=False) for _ in range(2)
        ]
        print(cluster.address, flush=True)
        if sys.stdin.readline():
            cluster.remove_node(nodes[1], allow_graceful=False)
            print("killed", flush=True)
            sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
