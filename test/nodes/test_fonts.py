"""Labels in any script: drawn with a font that has them, or numbered, and said."""

from __future__ import annotations

import numpy as np
import pytest
from test_annotation import picture, prediction

from evitif_edge_node import fonts
from evitif_edge_node.annotation import annotate
from evitif_edge_node.fonts import font_for, remark_on


@pytest.fixture
def only_dejavu(monkeypatch):
    """A machine on which nobody installed fonts."""
    monkeypatch.setattr(fonts, '_FOLDERS', ())
    for function in (fonts._installed, fonts._name_for):
        function.cache_clear()
    yield
    for function in (fonts._installed, fonts._name_for):
        function.cache_clear()


@pytest.mark.parametrize('text', ['Ankle boot', 'Pullover, 80 %', '…', ''])
def test_latin_is_drawn_as_before(text, only_dejavu):
    assert fonts._name_for(text) == fonts._OWN


@pytest.mark.parametrize('text', ['été', 'Straße', 'собака', 'σκύλος', 'собака cat', 'Україна'])
def test_accents_cyrillic_and_greek_need_no_installed_font(text, only_dejavu):
    pytest.importorskip('matplotlib')
    assert font_for(text, 14) is not None and remark_on(['cat', text]) == ''


def test_what_no_font_has_is_numbered_and_said_with_the_package(only_dejavu):
    assert font_for('猫', 14) is None
    remark = remark_on(['cat', '猫', '犬'])
    assert '2 of 3 labels' in remark and "'猫'" in remark and 'fonts-noto-cjk' in remark
    assert 'fonts-noto-core' in remark_on(['\U00012000'])          # cuneiform
    numbered, named = (annotate(picture(), prediction(labels=labels)) for labels in (('猫', 'a', 'b'), ('class 3', 'a', 'b')))
    np.testing.assert_array_equal(numbered, named)


def test_a_control_character_is_no_picture_of_a_box(only_dejavu):
    assert font_for('a\x07b', 14) is None


def test_every_label_is_drawn_without_an_error():
    annotate(picture(), prediction(labels=('猫', 'собака', 'x' * 300)))
    annotate(picture(), prediction(labels=('عربى', 'हिन्दी', '\ud800', '😀', ''), scores=(0.2,) * 5, class_ids=(1, 2, 3, 4, 5)))
