"""Replicas that only count: the service's own scheduler over measured costs, in simulated time."""
