"""The annotated image: the picture with lost tokens shaded and unsent patches dimmed; beside it the top classes, loss and latency."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw

from evitif.vocabulary import How, RecoveryName, Strategy
from evitif_edge_node.fonts import any_font, font_for

if TYPE_CHECKING:
    from evitif.pipeline import Prediction, StageTimes

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]     # left, top, width, height

_BACKGROUND, _TEXT, _FAINT, _TRACK = (22, 24, 29), (236, 239, 244), (138, 146, 160), (46, 50, 59)
_BAR, _BAR_OTHER = (86, 204, 160), (84, 120, 168)
_LOST_TINT, _LOST_HATCH = (18, 20, 34), (124, 54, 62)
_REMEMBERED_TINT = (84, 120, 168)
_BORDER = (64, 68, 76)
_NOT_SENT = 0.35            # brightness of patches that were not sent
_GOOD, _MIDDLING, _BAD, _LOCAL = (86, 204, 160), (240, 180, 80), (226, 96, 96), (240, 180, 80)
# Stages in the order of time, with the colour of each; stages of the network are warm, those of the computers cold.
_STAGES = (
    ('head', ('preprocess', 'head', 'packetise'), (84, 140, 214)),
    ('network', ('uplink', 'downlink'), (240, 180, 80)),
    ('wait', ('wait',), (200, 120, 80)),
    ('recovery', ('recovery',), (178, 132, 220)),
    ('tail', ('tail',), (86, 204, 160)),
)
_RECOVERY_NAMES = {RecoveryName.NONE: '', RecoveryName.PALDN: 'PALDN', RecoveryName.ZERO: 'zero filling', RecoveryName.MEAN: 'mean filling',
                   RecoveryName.MEMORY: 'from memory'}
_DESIGN_HEIGHT = 480        # pixels that the sizes below are for
_PANEL_WIDTH = 340
_WIDEST = 2.0               # a picture wider than twice its height is fitted by its width


def annotate(image: np.ndarray, prediction: Prediction, height: int = 480) -> np.ndarray:
    """Draw a prediction beside its image: uint8 [H, W, 3] RGB to uint8 [height, w, 3] RGB.

    Lost tokens are shaded in the part of the image that the model saw, those filled in from earlier frames in blue. Borders that the model
    was given around the image are drawn as well.
    """
    scale = height / _DESIGN_HEIGHT
    image, crop = _with_borders(image, prediction.crop)
    picture = _fit(image, height)
    zoom = picture.shape[1] / image.shape[1], picture.shape[0] / image.shape[0]
    picture = _shade_lost_tokens(picture, prediction, crop, zoom)
    panel_width = round(_PANEL_WIDTH * scale)
    canvas = np.empty((height, picture.shape[1] + panel_width, 3), np.uint8)
    canvas[:] = _BACKGROUND
    top = (height - picture.shape[0]) // 2
    canvas[top:top + picture.shape[0], :picture.shape[1]] = picture
    drawing = Image.fromarray(canvas)
    _Panel(ImageDraw.Draw(drawing), picture.shape[1], panel_width, scale).draw(prediction)
    return np.asarray(drawing)


def _fit(image: np.ndarray, height: int) -> np.ndarray:
    """Scale to `height`, or to the widest picture allowed; tiny images keep their pixels visible."""
    zoom = min(height / image.shape[0], _WIDEST * height / image.shape[1])
    size = max(1, round(image.shape[1] * zoom)), max(1, round(image.shape[0] * zoom))
    interpolation = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR if zoom < 4 else cv2.INTER_CUBIC
    return cv2.resize(image, size, interpolation=interpolation)


def _with_borders(image: np.ndarray, crop: Box | None) -> tuple[np.ndarray, Box | None]:
    """The image with the borders that the model saw around it, and what it saw of that."""
    if crop is None:
        return image, None
    left, top, width, height = crop
    beyond = [max(0, round(pixels)) for pixels in (-top, top + height - image.shape[0], -left, left + width - image.shape[1])]
    if not any(beyond):
        return image, crop
    return cv2.copyMakeBorder(image, *beyond, cv2.BORDER_CONSTANT, value=_BORDER), (left + beyond[2], top + beyond[0], width, height)


def _shade_lost_tokens(picture: np.ndarray, prediction: Prediction, crop: Box | None, zoom: tuple[float, float]) -> np.ndarray:
    """Darken and hatch lost patches, tint those filled in from memory; dim those not sent, and what the model did not see."""
    rows, columns = prediction.grid
    if crop is None or rows < 1 or columns < 1 or prediction.devices:
        return picture
    left, top, width, height = crop
    y, x = np.ogrid[0:picture.shape[0], 0:picture.shape[1]]
    # Token under each pixel's centre; -1 and rows (columns) are outside of what the model saw.
    row = np.floor(((y + 0.5) / zoom[1] - top) / height * rows).astype(int)
    column = np.floor(((x + 0.5) / zoom[0] - left) / width * columns).astype(int)
    seen = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    shaded = picture if seen.all() else np.where(seen[..., None], picture, cv2.convertScaleAbs(picture, alpha=0.45))
    if prediction.received is not None:
        received = np.asarray(prediction.received, bool)
        sent = np.ones_like(received) if prediction.sent is None else np.asarray(prediction.sent, bool)

        def where(tokens: np.ndarray) -> np.ndarray:
            grid = tokens[prediction.prefix_tokens:].reshape(rows, columns)
            return (seen & grid[row.clip(0, rows - 1), column.clip(0, columns - 1)])[..., None]
        shaded = np.where(where(~sent), cv2.convertScaleAbs(picture, alpha=_NOT_SENT), shaded)
        veil = np.empty_like(picture)
        veil[:] = _LOST_TINT
        veil[(x + y) % max(6, picture.shape[0] // 60) == 0] = _LOST_HATCH
        remembered = np.zeros_like(received) if prediction.remembered is None else np.asarray(prediction.remembered, bool)
        shaded = np.where(where(sent & ~received & ~remembered), cv2.addWeighted(picture, 0.34, veil, 0.66, 0), shaded)
        veil[:] = _REMEMBERED_TINT
        shaded = np.where(where(remembered & ~received), cv2.addWeighted(picture, 0.5, veil, 0.5, 0), shaded)
    return shaded


class _Panel:
    """The column of text and bars right of the picture; positions in pixels of the design height, scaled."""

    def __init__(self, draw: ImageDraw.ImageDraw, x: int, width: int, scale: float):
        self._draw, self._scale = draw, scale
        self._left = x + self._px(20)
        self._right = x + width - self._px(20)

    def draw(self, prediction: Prediction) -> None:
        """Fill the column."""
        self._headline(prediction)
        y = 86
        for rank, (label, score) in enumerate(zip(self._labels(prediction)[:5], prediction.scores[:5], strict=True)):
            self._class_bar(y, label, score, _BAR if rank == 0 else _BAR_OTHER)
            y += 38
        self._rule(288)
        self._link(302, prediction)
        self._rule(374)
        self._latency(388, prediction.stages)

    def _labels(self, prediction: Prediction) -> list[str]:
        """The labels; the number of a class whose label no font here can draw."""
        return [label if font_for(label, self._px(14)) else f'class {prediction.class_ids[rank]}'
                for rank, label in enumerate(prediction.labels)]

    def _headline(self, prediction: Prediction) -> None:
        if prediction.how == How.FALLBACK:
            how, colour = 'answered on the robot alone', _LOCAL
        elif prediction.how == How.LOCAL:
            how, colour = 'the robot was sure by itself', _GOOD
        elif prediction.how == How.MEMORY:
            how, colour = f'no answer came: the last one, {prediction.memory_age:.2f} s old', _LOCAL
        else:
            recovery = _RECOVERY_NAMES.get(prediction.recovery, prediction.recovery)
            how = {Strategy.SPLIT: 'answered off-board', Strategy.SELECTION: 'answered off-board, from patches',
                   Strategy.PARTITION: 'answered by the devices together'}[prediction.strategy]
            recovery = recovery if prediction.strategy == Strategy.SPLIT else ''
            how, colour = how + (f', {recovery}' if recovery else ''), _GOOD
        self._dot(24, colour)
        self._text(self._left + self._px(16), 16, how, 13, _FAINT, room=self._right - self._left - self._px(16))
        label = next(iter(self._labels(prediction)), 'no class')
        self._text(self._left, 38, label, 26, _TEXT, room=self._right - self._left)

    def _class_bar(self, y: int, label: str, score: float, colour: Colour) -> None:
        percent = f'{100 * score:.1f} %'
        self._text(self._left, y, label, 14, _TEXT, room=self._right - self._left - self._px(64))
        self._text(self._right, y, percent, 14, _FAINT, anchor='ra')
        self._bar(y + 20, 7, [(min(max(score, 0.0), 1.0), colour)])

    def _link(self, y: int, prediction: Prediction) -> None:
        sent, received = prediction.packets_sent, prediction.packets_received
        if prediction.how != How.OFF_BOARD or not sent:
            sure = prediction.how == How.LOCAL
            silent = 'no answer came in time' if prediction.how == How.MEMORY else 'no link to the bridge'
            self._text(self._left, y, 'nothing had to be sent' if sure else silent, 15, _TEXT)
            self._bar(y + 26, 7, [])
            self._text(self._left, y + 42, '' if sure else 'nothing was received', 13, _FAINT)
            return
        rate = '' if math.isnan(prediction.packet_error_rate) else f'link {100 * prediction.packet_error_rate:.0f} %'
        if prediction.devices:
            self._devices(y, prediction)
            self._text(self._right, y + 42, rate, 13, _FAINT, anchor='ra')
            return
        tokens, what = prediction.tokens_sent, 'patches' if prediction.strategy == Strategy.SELECTION else 'tokens'
        lost = 1.0 - min(prediction.tokens_received, tokens) / max(tokens, 1)
        colour = _GOOD if lost < 0.1 else _MIDDLING if lost < 0.5 else _BAD
        self._text(self._left, y, f'{100 * lost:.0f} % of the {what} lost', 15, _TEXT)
        self._text(self._right, y + 1, f'by {received} of {sent} packets', 13, _FAINT, anchor='ra')
        remembered = 0.0 if prediction.remembered is None else np.count_nonzero(prediction.remembered) / max(tokens, 1)
        self._bar(y + 26, 7, [(max(0.0, lost - remembered), colour), (remembered, _BAR_OTHER)])
        total = tokens if prediction.received is None else len(prediction.received)
        of_all = f', of {total} in all' if tokens < total else ''
        old = f', {100 * remembered:.0f} % from memory, {prediction.memory_age:.1f} s' if remembered else ''
        named = '' if old else f' {what}'       # the line above names them
        self._text(self._left, y + 42, f'{prediction.tokens_received} of {tokens}{named}{of_all}{old}', 13, _FAINT,
                   room=self._right - self._left - self._px(70))
        self._text(self._right, y + 42, rate, 13, _FAINT, anchor='ra')

    def _devices(self, y: int, prediction: Prediction) -> None:
        """How many devices answered, a part of the bar for each, and which did not."""
        count, answered = len(prediction.devices), int(np.count_nonzero(prediction.received))
        self._text(self._left, y, f'{answered} of {count} devices answered', 15, _TEXT)
        self._bar(y + 26, 7, [(1 / count, _GOOD if there else _BAD) for there in prediction.received])
        missing = [name for name, there in zip(prediction.devices, prediction.received, strict=True) if not there]
        text = f'without {", ".join(missing)}' if missing else ', '.join(prediction.devices)
        self._text(self._left, y + 42, text, 13, _FAINT, room=self._right - self._left - self._px(70))

    def _latency(self, y: int, stages: StageTimes) -> None:
        parts = [(name, sum(_known(getattr(stages, field)) for field in fields), colour) for name, fields, colour in _STAGES]
        total = _known(stages.total) or sum(seconds for _, seconds, _ in parts)
        self._text(self._left, y, f'{1e3 * total:.1f} ms', 15, _TEXT)
        self._text(self._right, y + 1, 'image in to answer out', 13, _FAINT, anchor='ra')
        if total <= 0:
            return
        self._bar(y + 26, 7, [(seconds / total, colour) for _, seconds, colour in parts])
        x = self._left
        for name, seconds, colour in parts:
            if seconds <= 0:
                continue
            text = f'{name} {1e3 * seconds:.1f}'
            if x + self._px(14) + self._width(text, 12) > self._right:
                x, y = self._left, y + 18
            self._draw.ellipse((x, self._px(y + 47), x + self._px(7), self._px(y + 54)), fill=colour)
            self._text(x + self._px(12), y + 43, text, 12, _FAINT)
            x += self._px(24) + self._width(text, 12)

    def _bar(self, y: int, thickness: int, parts: list[tuple[float, Colour]]) -> None:
        """A track filled with parts, each a share of its length."""
        top, bottom = self._px(y), self._px(y + thickness)
        self._draw.rounded_rectangle((self._left, top, self._right, bottom), self._px(3), fill=_TRACK)
        x = float(self._left)
        for share, colour in parts:
            end = min(x + share * (self._right - self._left), self._right)
            if end - x >= 1:
                self._draw.rounded_rectangle((round(x), top, round(end), bottom), self._px(3), fill=colour)
            x = end

    def _dot(self, y: int, colour: Colour) -> None:
        radius, y = self._px(4), self._px(y)
        self._draw.ellipse((self._left, y - radius, self._left + 2 * radius, y + radius), fill=colour)

    def _rule(self, y: int) -> None:
        self._draw.line((self._left, self._px(y), self._right, self._px(y)), fill=_TRACK, width=max(1, self._px(1)))

    def _text(self, x: int, y: int, text: str, size: int, colour: Colour, *, anchor: str = 'la',
              room: int | None = None) -> None:
        if room is not None and self._width(text, size) > room:
            while text and self._width(text + '…', size) > room:
                text = text[:-1]
            text += '…'
        self._draw.text((x, self._px(y)), text, colour, any_font(text, self._px(size)), anchor=anchor)

    def _width(self, text: str, size: int) -> int:
        return round(self._draw.textlength(text, any_font(text, self._px(size))))

    def _px(self, design: float) -> int:
        return round(design * self._scale)


def _known(seconds: float) -> float:
    return 0.0 if math.isnan(seconds) else max(seconds, 0.0)
