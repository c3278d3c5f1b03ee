"""Prepare data, train and evaluate checkpoints. Imports `app`; imported by nothing."""
