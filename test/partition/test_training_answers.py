"""The original's answers on training images and views of them: each is about the picture beside it, and nothing is asked twice."""

import dataclasses

import pytest
import torch

from evitif_lab.training import training_answers as under_test
from evitif_lab.training.partition import confusions_of, load_original
from evitif_lab.training.training_answers import training_answers, view_of
from evitif_lab.trials.images import Normalise


@pytest.fixture
def original(model):
    return load_original(str(model))


def answers_of(original, images, folder, **options):
    built = original.built
    return training_answers(built.module, original.fingerprint, built.data_config, built.class_names, str(images), 90, folder, **options)


def test_each_answer_is_about_the_view_beside_it(original, images, tmp_path):
    found = answers_of(original, images, tmp_path, views=2)
    assert found.images.shape == (270, 3, 32, 32) and found.images.dtype == torch.uint8
    assert found.class_ids.shape == (90,) and found.logits.shape == (270, 3) and len(found.features) == 270
    with torch.inference_mode():
        expected = original.module(Normalise(original.built.data_config)(found.images))
    torch.testing.assert_close(found.logits, expected, atol=2e-2, rtol=1e-2)        # kept as float16
    plain, first, second = found.images.split(90)
    assert not torch.equal(first, second)
    assert not any(torch.equal(plain, view) for view in (first, second))


def test_views_are_added_without_asking_again_what_is_known(original, images, tmp_path, monkeypatch):
    plain = answers_of(original, images, tmp_path)
    asked = []
    answer = under_test._answer
    monkeypatch.setattr(under_test, '_answer', lambda module, batch, *rest: asked.append(len(batch)) or answer(module, batch, *rest))
    one = answers_of(original, images, tmp_path, views=1)
    assert sum(asked) == 90
    again = answers_of(original, images, tmp_path, views=1)
    assert sum(asked) == 90
    for name in ('images', 'class_ids', 'logits', 'features'):
        assert torch.equal(getattr(one, name), getattr(again, name))
    assert torch.equal(one.images[:90], plain.images) and torch.equal(one.logits[:90], plain.logits)


def test_an_interrupted_view_goes_on(original, images, tmp_path, monkeypatch):
    monkeypatch.setattr(under_test, 'CHUNK', 40)
    whole = answers_of(original, images, tmp_path / 'whole', views=1)
    answer, count = under_test._answer, [0]

    def interrupted(*arguments):
        count[0] += 1
        if count[0] == 5:           # 40, 40 and 10 images as they are, then 40 of the view
            raise KeyboardInterrupt
        return answer(*arguments)
    monkeypatch.setattr(under_test, '_answer', interrupted)
    with pytest.raises(KeyboardInterrupt):
        answers_of(original, images, tmp_path / 'part', views=1)
    monkeypatch.setattr(under_test, '_answer', answer)
    torch.testing.assert_close(answers_of(original, images, tmp_path / 'part', views=1).logits, whole.logits)


def test_a_view_is_the_image_moved_mirrored_and_mixed():
    row = torch.arange(40, dtype=torch.uint8).expand(30, 3, 40, 40)     # each image a ramp from left to right
    view = view_of(row, 0, seed=3)
    assert torch.equal(view, view_of(row, 0, seed=3))
    assert not torch.equal(view, view_of(row, 1, seed=3)) and not torch.equal(view, view_of(row, 0, seed=4))
    middle = view[:, 0, 0, 20].float()
    unmixed = (view[:, 0, 0, 21].float() - view[:, 0, 0, 19].float()).abs() == 2     # the slope is the ramp's own: up or, mirrored, down
    assert 5 < unmixed.sum() < 30
    assert ((middle - 19.5).abs() <= 5).all()                            # moved by a tenth at most, to either side, mirrored or not


def test_confusions_are_of_the_images_as_they_are(original, images, tmp_path):
    viewed, plain = (confusions_of(answers_of(original, images, tmp_path, views=views), 3) for views in (3, 0))
    assert (viewed == plain).all()


def test_what_is_held_out_is_in_nothing_that_is_trained_on(original, images, tmp_path, monkeypatch):
    monkeypatch.setattr(under_test, 'CHUNK', 40)
    whole = answers_of(original, images, tmp_path, views=2)
    learnt, held = whole.divided(7)                      # 90 images are groups of 40, 40 and 10
    assert len(learnt.class_ids) == 80 and len(held.class_ids) == 10
    for view in range(3):
        for part, first, count in ((learnt, 0, 80), (held, 80, 10)):
            there, here = slice(90 * view + first, 90 * view + first + count), slice(count * view, count * (view + 1))
            for name in ('images', 'logits', 'features'):
                assert torch.equal(getattr(part, name)[here], getattr(whole, name)[there])
    assert torch.equal(torch.cat((learnt.class_ids, held.class_ids)), whole.class_ids)
    others = dataclasses.replace(whole, images=whole.images[:90].clone())
    others.images[80:] = 0                               # the views of what is learnt from do not depend on what is held out
    assert torch.equal(view_of(others.images, 0)[:80], learnt.images[80:160])
    assert len(whole.divided(11)[1].class_ids) == 50


@pytest.mark.parametrize('held_out', [0, -1, 51, 90])
def test_so_many_held_out_that_nothing_is_left_is_refused(original, images, tmp_path, monkeypatch, held_out):
    monkeypatch.setattr(under_test, 'CHUNK', 40)
    with pytest.raises(ValueError, match=f'held_out is {held_out} of 90 training images: expected 1 to 50'):
        answers_of(original, images, tmp_path).divided(held_out)
