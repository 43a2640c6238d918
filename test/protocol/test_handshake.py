import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evitif.protocol.wire.datagram import DatagramError
from evitif.protocol.wire.handshake import Hello, Refuse, Welcome

from .simulated_link import PARAMETERS

HELLO = Hello('robot', 2**64 - 1, PARAMETERS)


def test_each_message_is_read_as_it_was_written():
    for message in (HELLO, Welcome(5, 'brücke'), Refuse(5, 'bridge', ('cut: 3, 6', 'model: a, b'))):
        assert type(message).parse(memoryview(message.to_bytes())) == message


def test_reasons_that_do_not_fit_are_counted():
    refuse = Refuse(5, 'bridge', tuple(f'reason {k}' for k in range(10)))
    body = refuse.to_bytes(150)
    assert len(body) <= 150
    reasons = Refuse.parse(body).reasons
    assert reasons[0] == 'reason 0'
    assert reasons[-1] == f'and {10 - (len(reasons) - 1)} more'


@pytest.mark.parametrize('body', [
    b'', b'null', b'[]', b'"x"', b'{', b'\xff\xfe', b'[' * 4000, b'{"a":' * 800, b'1' * 4000, b'{"x": NaN}',
    b' ' * 5000,
    json.dumps({'robot': 'r', 'instance': 5, 'parameters': PARAMETERS.to_json()}).encode(),
    json.dumps({'robot': ['r'], 'instance': '0' * 16, 'parameters': PARAMETERS.to_json()}).encode(),
    json.dumps({'robot': 'r', 'instance': '0' * 16, 'parameters': None}).encode(),
    json.dumps({'robot': 'r', 'instance': '0' * 16, 'bridge': 'b', 'reasons': []}).encode(),
    json.dumps({'robot': 'r', 'instance': '0' * 16, 'bridge': 'b', 'reasons': [1]}).encode(),
    json.dumps({'robot': 'r', 'instance': '0' * 16, 'bridge': 'b', 'reasons': ['x'] * 1000}).encode(),
], ids=lambda body: repr(body[:20]))
def test_a_hostile_body_is_malformed_and_nothing_worse(body):
    for message in (Hello, Refuse):
        with pytest.raises(DatagramError) as raised:
            message.parse(body)
        assert raised.value.kind == 'malformed'


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8)


@given(st.sampled_from(['robot', 'instance', 'parameters', *PARAMETERS.to_json()]), _JSON)
def test_any_json_in_any_field_is_read_or_malformed(field, value):
    hello = json.loads(HELLO.to_bytes())
    (hello if field in hello else hello['parameters'])[field] = value
    try:
        read = Hello.parse(json.dumps(hello).encode())
    except DatagramError as error:
        assert error.kind == 'malformed'
    else:
        assert Hello.parse(read.to_bytes()) == read


@pytest.mark.parametrize('top_k', [-1, 256, 2**70, 1.5, True, '5', None, [5]])
def test_a_hello_that_asks_for_an_impossible_number_of_classes_is_malformed(top_k):
    asked = json.loads(HELLO.to_bytes())
    assert 'top_k' not in asked
    with pytest.raises(DatagramError, match='malformed'):
        Hello.parse(json.dumps({**asked, 'top_k': top_k}).encode())


def test_a_hello_says_how_many_classes_are_asked_for():
    hello = Hello('robot', 5, PARAMETERS, 255)
    assert Hello.parse(hello.to_bytes()) == hello and Hello.parse(HELLO.to_bytes()).top_k == 0
