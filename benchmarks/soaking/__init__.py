"""What the soak is made of: questions, callers, checks, disturbances, and what is watched meanwhile."""
