"""JSON becomes the types that were asked for, or is refused with the place, the value and what was expected."""

import json
from dataclasses import asdict, dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evitif.typed_json import typed
from evitif.vocabulary import Strategy


@dataclass(frozen=True)
class Part:
    name: str
    share: float = 1.0


@dataclass(frozen=True)
class Whole:
    strategy: Strategy
    parts: tuple[Part, ...]
    pair: tuple[int, float]
    cut: int | None = None
    costs: dict[str, float] = field(default_factory=dict)


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.builds(Whole, strategy=st.sampled_from(Strategy), parts=st.lists(st.builds(Part, st.text(), finite)).map(tuple),
                 pair=st.tuples(st.integers(), finite), cut=st.none() | st.integers(), costs=st.dictionaries(st.text(), finite)))
def test_what_was_written_comes_back(whole):
    assert typed(Whole, json.loads(json.dumps(asdict(whole)))) == whole


def test_missing_keys_have_their_defaults_and_unknown_ones_are_left_out():
    assert typed(Whole, {'strategy': 'split', 'parts': [{'name': 'a', 'more': 1}], 'pair': [1, 2], 'other': None}) == \
        Whole(Strategy.SPLIT, (Part('a'),), (1, 2.0))
    assert typed(dict[float, float], {'0.3': 1}) == {0.3: 1.0}


@pytest.mark.parametrize('content, expected', [
    ({'strategy': 'nix'}, "it.strategy is 'nix', expected one of split, selection, partition"),
    ({'parts': {}}, 'it.parts is {}, expected a list'),
    ({'parts': [{'name': 'a'}, {'name': 5}]}, 'it.parts[1].name is 5, expected a text'),
    ({'parts': [{}]}, "the key 'it.parts[0].name' is missing"),
    ({'pair': [1]}, 'it.pair is [1], expected 2 values'),
    ({'pair': [True, 1]}, 'it.pair[0] is True, expected a whole number'),
    ({'cut': 1.5}, 'it.cut is 1.5, expected a whole number'),
    ({'costs': {'a': 'much'}}, "it.costs.a is 'much', expected a number"),
    ([], 'it is [], expected a dict'),
])
def test_what_does_not_fit_is_refused_with_its_place(content, expected):
    if isinstance(content, dict):
        content = {'strategy': 'split', 'parts': [], 'pair': [1, 2], **content}
    with pytest.raises(ValueError) as refused:
        typed(Whole, content, 'it')
    assert str(refused.value) == expected
