"""Measurements of the service. Imports `app`; imported by nothing."""
