import json
from dataclasses import replace

import pytest

from evitif.protocol.wire.parameters import StreamParameters

from .simulated_link import PARAMETERS


def test_differences_name_the_field_and_both_values():
    other = replace(PARAMETERS, cut=6, image_size=(384, 384))
    assert PARAMETERS.differences(other) == ['cut: the edge has 3, the bridge has 6',
                                             'image_size: the edge has 224x224, the bridge has 384x384']
    assert PARAMETERS.differences(replace(PARAMETERS)) == []


def test_the_robot_may_read_fewer_heads_but_no_others():
    bridge = replace(PARAMETERS, heads=(('rooms', 'ab' * 8), ('things', 'cd' * 8)))
    for heads in ((), (('things', 'cd' * 8),), (('things', 'cd' * 8), ('rooms', 'ab' * 8))):
        assert replace(PARAMETERS, heads=heads).differences(bridge) == []
    other = replace(PARAMETERS, heads=(('things', 'ce' * 8),))
    assert other.differences(bridge) == ['heads: the edge has things (cececececececece), the bridge has rooms (abababababababab), '
                                         'things (cdcdcdcdcdcdcdcd)']
    assert StreamParameters.from_json(json.loads(json.dumps(bridge.to_json()))) == bridge


def test_parameters_survive_json():
    assert StreamParameters.from_json(PARAMETERS.to_json() | {'a key of a later version': 1}) == PARAMETERS


@pytest.mark.parametrize(('field', 'value', 'expected'), [
    ('model', '', 'printable text'),
    ('model', 'x' * 200, 'printable text'),
    ('model', 'a\nb', 'printable text'),
    ('model', '\ud800', 'printable text'),
    ('fingerprint', 'AB' * 32, '64 hexadecimal'),
    ('cut', -1, 'whole number from 0'),
    ('cut', True, 'whole number'),
    ('cut', '3', 'whole number'),
    ('quantisation', 'int2', 'fp16, int8, int4'),
    ('quantisation', ['int8'], 'fp16, int8, int4'),
    ('image_size', (224,), '(height, width)'),
    ('image_size', 224, '(height, width)'),
    ('tokens', 198, '197 in all'),
    ('grid', (14, 0), 'whole number from 1'),
    ('groups', 5, 'divisor of 144'),
    ('row_bytes', 0, 'whole number from 1'),
    ('classes', 1e3, 'whole number'),
    ('heads', (('rooms', 'xy'),), '16 hexadecimal'),
    ('heads', (('', 'ab' * 8),), 'printable text'),
    ('heads', (('a', 'ab' * 8), ('a', 'cd' * 8)), 'names that differ'),
    ('heads', (('a', 'ab' * 8),) * 33, 'at most 32'),
])
def test_an_impossible_value_is_refused_naming_it_and_what_was_expected(field, value, expected):
    with pytest.raises(ValueError) as raised:
        replace(PARAMETERS, **{field: value})
    assert field in str(raised.value)
    assert expected in str(raised.value)


@pytest.mark.parametrize('value', [None, [], 'text', 1, {}, {'model': 'x'}])
def test_json_that_is_no_parameters_is_a_value_error(value):
    with pytest.raises(ValueError, match='lack'):
        StreamParameters.from_json(value)
