from tests.support.figures import Figure, table


def test_the_table_has_a_heading_and_a_line_for_each_figure() -> None:
    assert table([Figure("live value after", "0.31 s", "1 s"), Figure("rows", "7", "")]) == [
        "figure            measured  bound",
        "---------------------------------",
        "live value after    0.31 s    1 s",
        "rows                     7",
    ]
