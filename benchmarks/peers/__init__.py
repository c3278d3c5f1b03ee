"""The same network behind other servers. Each is a program: `python -m benchmarks.peers.plain`."""
