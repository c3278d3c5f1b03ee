from app.models.rows import padded_rows


def test_shapes_come_from_a_small_family() -> None:
    assert sorted({padded_rows(count) for count in range(1, 33)}) == [4, 8, 16, 24, 32]
    assert all(padded_rows(count) >= count for count in range(1, 500))
