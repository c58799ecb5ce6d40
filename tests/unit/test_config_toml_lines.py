import tomllib

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.toml_lines import KeyPath, line_numbers, nearest_line

_TEXT = '''\
# x = 1
[gateway]
name = "x"  # y = 2
[mqtt]
  "port" = 1883
a . b = 2
text = """
[not.a.table]
x = 1
"""
literal = \'\'\'
y = 2\'\'\'
[serial]
patterns = [
  "a]", # [
  'b',
]
inline = { a = 1, b = [1, 2] }
[[serial.port]]
match = "x"
[[serial.port]]
match = "#y"
[serial.port.deeper]
k = 1
'''


def test_lines_are_found_behind_strings_comments_and_lists() -> None:
    tomllib.loads(_TEXT)

    assert line_numbers(_TEXT) == {
        ("gateway",): 2,
        ("gateway", "name"): 3,
        ("mqtt",): 4,
        ("mqtt", "port"): 5,
        ("mqtt", "a"): 6,
        ("mqtt", "a", "b"): 6,
        ("mqtt", "text"): 7,
        ("mqtt", "literal"): 11,
        ("serial",): 13,
        ("serial", "patterns"): 14,
        ("serial", "inline"): 18,
        ("serial", "port", 0): 19,
        ("serial", "port", 0, "match"): 20,
        ("serial", "port", 1): 21,
        ("serial", "port", 1, "match"): 22,
        ("serial", "port", 1, "deeper"): 23,
        ("serial", "port", 1, "deeper", "k"): 24,
    }


def test_a_key_in_an_inline_table_has_the_line_of_the_table() -> None:
    lines = line_numbers(_TEXT)

    assert nearest_line(lines, ("serial", "inline", "a")) == 18
    assert nearest_line(lines, ("nowhere",)) is None


_VALUES = st.sampled_from(
    ["1", '"#["', "'\"'", '"""\n[a]\n"""', "'''\nb=1\n'''", "[\n1, # ]\n2]", "{x=[1]}", "true # ["]
)


@given(values=st.lists(_VALUES, min_size=1, max_size=8))
def test_each_key_is_found_on_the_line_it_was_written_to(values: list[str]) -> None:
    text = "[t]\n"
    expected: dict[KeyPath, int] = {}
    for number, value in enumerate(values):
        expected["t", f"k{number}"] = text.count("\n") + 1
        text += f"k{number} = {value}\n"
    tomllib.loads(text)

    assert line_numbers(text) == {("t",): 1, **expected}
