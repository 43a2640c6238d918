"""What a training calls the accuracy that it reached: a test's only where the images were not trained on."""

from __future__ import annotations

_WORDS = {'test': 'test accuracy', 'val': 'validation accuracy', 'all': 'accuracy on the training images themselves'}


def accuracy_words(split: str) -> str:
    """What an accuracy on images of this split (`ImageDataset.split`) is called."""
    return _WORDS[split]


def judged_figures(split: str, top1: float, images: int) -> dict:
    """The figures of a description: `test_top1`, or, where nothing was held out, `training_top1`; and which images judged."""
    kind = 'training' if split == 'all' else 'test'
    return {f'{kind}_top1': round(top1, 4), f'{kind}_images': images, 'judged_by': split}


def describe_figures(figures: dict) -> str:
    """`validation accuracy 91.20 % on 500 images`."""
    kind = 'test' if 'test_top1' in figures else 'training'
    words = accuracy_words(figures.get('judged_by', 'test'))
    return f'{words} {100 * figures[f"{kind}_top1"]:.2f} % on {figures[f"{kind}_images"]} images'
