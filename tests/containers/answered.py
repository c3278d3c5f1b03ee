"""Fails unless the JSON on standard input has a value in every field named; prints the summary."""

import json
import sys

answer = json.load(sys.stdin)
empty = [name for name in sys.argv[1:] if not answer.get(name)]
if empty:
    sys.exit(f"no {', '.join(empty)} in the answer: {answer}")
print(answer["summary"])
