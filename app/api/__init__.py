"""The HTTP face: routes without logic, and what stands around them. Knows engines, never a model family."""
