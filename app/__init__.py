"""Precis: a REST service for attention Seq2Seq summarizers."""

__version__ = "0.1.0"
