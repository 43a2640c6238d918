"""The picture of docs/moving-fashion.md: clips from top to bottom, a frame every third of a second, and the last one's mask.

    python -m scripts.contact_sheet docs/images/moving-fashion.png
"""

from __future__ import annotations

import argparse
import colorsys

import numpy as np
from PIL import Image, ImageDraw

from evitif.datasets import MovingFashion

CLIPS, FRAMES, EVERY = 5, 10, 10
SHOWN, LINE = 112, 16       # pixels of a frame's side, and below it for its class
COLOURS = np.array([[round(255 * value) for value in colorsys.hsv_to_rgb(number / 10, 0.7, 0.9)] for number in range(10)] + [[30, 30, 30]],
                   np.uint8)


def contact_sheet() -> Image.Image:
    """A row for each clip."""
    dataset = MovingFashion('test')
    sheet = Image.new('RGB', ((FRAMES + 1) * SHOWN, CLIPS * (SHOWN + LINE)), 'white')
    drawing = ImageDraw.Draw(sheet)
    for row in range(CLIPS):
        frames = [dataset.frame(row, EVERY * number) for number in range(FRAMES)]
        cells = [(frame.image, dataset.class_names[frame.class_id]) for frame in frames] + [(COLOURS[frames[-1].mask], 'its mask')]
        for column, (image, words) in enumerate(cells):
            left, top = column * SHOWN, row * (SHOWN + LINE)
            sheet.paste(Image.fromarray(image).resize((SHOWN - 2, SHOWN - 2), Image.Resampling.NEAREST), (left, top))
            drawing.text((left + 2, top + SHOWN), words, fill='black')
    return sheet


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Draw the contact sheet of moving-fashion.')
    parser.add_argument('output', help='the picture to write')
    contact_sheet().quantize(256).save(parser.parse_args().output, optimize=True)
