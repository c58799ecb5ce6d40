"""Help in a terminal that is narrower than its texts."""

from gateway.cli.help_text import fitted

TEXT = """\
examples:
  edge-gateway update                       what boards run, and what they could have
  edge-gateway simulate --boards 3 --sensors bme280,adc --interval-ms 500 --link-dir ports

The path of each port is printed on a line of its own once it is there; before them, with
--broker, where it is found.
    drop      the line is lost
Exit codes: 0 stopped, 1 failed."""


def test_a_terminal_as_wide_as_the_texts_gets_them_as_they_are() -> None:
    assert fitted(TEXT, 100) == TEXT


def test_a_narrower_one_gets_paragraphs_filled_anew_and_remarks_below_each_other() -> None:
    assert (
        fitted(TEXT, 70)
        == """\
examples:
  edge-gateway update                       what boards run, and what
                                            they could have
  edge-gateway simulate --boards 3 --sensors bme280,adc --interval-ms 500 --link-dir ports

The path of each port is printed on a line of its own once it is
there; before them, with --broker, where it is found.
    drop      the line is lost
Exit codes: 0 stopped, 1 failed."""
    )


def test_a_remark_with_no_room_beside_its_example_stands_below_it() -> None:
    line = "  edge-gateway flash --image RPI_PICO_W.uf2     its BOOTSEL button was held"

    assert fitted(line, 60).split("\n") == [
        "  edge-gateway flash --image RPI_PICO_W.uf2",
        "      its BOOTSEL button was held",
    ]


def test_what_begins_with_a_head_is_not_drawn_into_the_paragraph_before() -> None:
    text = "Ctrl-C ends it all.\nsensors: bme280, adc\nExit codes: 0 stopped."

    assert fitted(text, 70) == text
