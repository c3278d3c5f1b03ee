"""Encoder-decoders in the form of Hugging Face: BART, mBART, Pegasus, Marian and T5, and any other by `fallback`.

The library reads configurations and weights and encodes. Decoding, one step of all live rows at a time, is our own; of
architectures that have no such step, the library steps the rows of one source at a time.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the library is imported: whatever it is asked, it asks no network
