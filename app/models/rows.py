"""The numbers of rows that torch multiplies on a CPU: products of these give each row the same bits."""

FEWEST_ROWS = 4
ROW_STEP = 8


def padded_rows(count: int) -> int:
    """Number of rows that are computed for `count` of them: 4, 8, 16, 24, …"""
    return FEWEST_ROWS if count <= FEWEST_ROWS else -(-count // ROW_STEP) * ROW_STEP
