"""Label files as editors write them."""

from __future__ import annotations

import codecs

import pytest

from evitif.model.errors import ModelError
from evitif.pipeline.loading import labels_of
from evitif.settings import SplitSettings

LABELS = ('猫', 'собака', 'Kätzchen')


def labels(tmp_path, content: bytes):
    path = tmp_path / 'labels.txt'
    path.write_bytes(content)
    return labels_of(SplitSettings(model='x', labels_file=str(path)), (), len(LABELS))


@pytest.mark.parametrize('ending', ['\n', '\r\n'])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_byte_order_marks_and_line_ends_are_no_part_of_a_label(tmp_path, encoding, ending):
    assert labels(tmp_path, (ending.join(LABELS) + ending).encode(encoding)) == LABELS


def test_big_endian(tmp_path):
    assert labels(tmp_path, codecs.BOM_UTF16_BE + '\n'.join(LABELS).encode('utf-16-be')) == LABELS


@pytest.mark.parametrize('content', ['Kätzchen\nb\nc'.encode('latin-1'), 'cat\ndog\nbird'.encode('utf-16-le'), '猫\n犬\n鳥'.encode('gbk')])
def test_another_encoding_is_refused_with_what_to_do(tmp_path, content):
    with pytest.raises(ModelError, match='labels.txt.*save it as UTF-8'):
        labels(tmp_path, content)
