"""Bars from what a stage tells, and what is still to be written down of them."""

from v2c.events import Began, Ended, Moved
from v2c.model.wave import Stage
from v2c.waves.drawing import Drawing


def test_a_bar_is_given_until_it_was_written() -> None:
    """A database that is away loses no bar: what was not written is given again."""
    drawing = Drawing("erp", Stage.REPLICATE, 1, "host-1")
    drawing(Began("j", "capture", 1.0))
    drawing(Ended("j", "capture", 2.0))
    drawing(Began("j", "upload", 3.0))
    lost = drawing.changed()
    assert [bar.span.step for bar in lost] == ["capture", "upload"]
    again = drawing.changed()
    assert again == lost
    drawing.written(again)
    assert drawing.changed() == []


def test_what_changed_while_it_was_written_is_given_again() -> None:
    drawing = Drawing("erp", Stage.REPLICATE, 1, "host-1")
    drawing(Began("j", "capture", 1.0))
    drawing(Ended("j", "capture", 2.0))
    drawing(Began("j", "upload", 3.0))
    drawing(Began("j", "upload", 3.0, "copy", 100))
    bars = drawing.changed()
    drawing(Moved("j", "upload", 4.0, "copy", 50, 100))
    drawing.written(bars)
    (upload,) = drawing.changed()
    assert (upload.span.step, upload.done, upload.total) == ("upload", 50, 100)
