"""Encoder-decoders in the form of Hugging Face: BART, mBART, Pegasus, Marian and T5 at the seam, others by `generate`.

The library reads configurations and weights and encodes; decoding, one step of all live rows at a time, is our own.
"""
