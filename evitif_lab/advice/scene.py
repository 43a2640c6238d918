"""What is judged by: parts of a recording as the model sees them, and what the uncut model says of them."""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import numpy as np
import torch

from evitif.datasets.recorded import keep_image, kept_image
from evitif.pipeline.cut_model import CutModel
from evitif.recording import Recording
from evitif.settings import SplitSettings
from evitif_lab.commands.progress import Progress

NO_ANSWER = -1
RUN = 60            # frames that follow one another; a way's memory starts anew with each run
LEAD = 10           # frames at the beginning of each that are not judged
_BATCH = 16
_MEASURED = 12      # times that a computation is measured


@dataclass(frozen=True)
class Frame:
    """A frame and when it came, seconds after the first of its run."""

    seen: np.ndarray            # uint8 [h, w, 3], as the model's preprocessing leaves it
    at_s: float
    path: Path                  # where the image itself is

    @property
    def image(self) -> np.ndarray:
        """The image as it was recorded, uint8 [H, W, 3] RGB."""
        return kept_image(self.path)


class Scene:
    """
    Runs of frames, evenly spread over a recording, and the judge. The images are files while it lives.

    :param settings: of the model, as edge and bridge take them
    :param most: frames in all
    :param run: of a run, at most; of each the first few are sent and not judged, since a robot seldom begins anew
    :ivar runs: the frames
    :ivar judged: bool [frames]
    :ivar probabilities: float32 [frames, classes] of the uncut model
    :ivar answers: int [frames], its own
    :raises ValueError: the model cannot be loaded, or there is no image (ModelError, RecordingError)
    :raises OSError: the disk is full
    """

    def __init__(self, recording: Recording, settings: dict, most: int, start_s: float = 0.0, duration_s: float = math.inf,
                 run: int = RUN):
        self._folder = Path(tempfile.mkdtemp(prefix='evitif-compare-'))
        self._clean = weakref.finalize(self, rmtree, self._folder, True)
        self._run = run
        self.model = CutModel.load(SplitSettings(**settings))
        config = self.model.preprocessor.data_config
        self._mean, self._std = (torch.tensor(config[name])[:, None, None] for name in ('mean', 'std'))
        self.runs = self._runs(recording, most, start_s, duration_s)
        self.frames = [frame for run in self.runs for frame in run]
        if not self.frames:
            raise ValueError(f'{recording.name} has no image that can be read in that part')
        self.judged = np.concatenate([np.arange(len(run)) >= (LEAD if len(run) >= 2 * LEAD else 0) for run in self.runs])
        self._known: dict[bytes, np.ndarray] = {}
        with torch.inference_mode():
            self.probabilities = np.concatenate([self.model.split.whole(self.model.preprocessor(frame.image)).softmax(1).numpy()
                                                 for frame in Progress(self.frames, desc='the uncut model', unit='image')])
        self.answers = self.probabilities.argmax(1)
        one = self.normalised([self.frames[0].seen])
        self.whole_s = measured(lambda: self.model.split.whole(one))        # seconds of the uncut model, on this machine

    def _runs(self, recording: Recording, most: int, start_s: float, duration_s: float) -> list[list[Frame]]:
        first, last, count = recording.extent()
        span = min(duration_s, (last - first) / 1e9 - start_s + 1e-3)
        share = min(1.0, span / max((last - first) / 1e9, 1e-9))
        wanted = 1 if count * share <= most else max(1, most // self._run)
        every = max(1, round(count * share / wanted))       # from the beginning of one run to that of the next
        length, runs = min(most if wanted == 1 else self._run, every), []
        for index, image in enumerate(Progress(recording.images(start_s, span), desc='reading the recording', unit='image',
                                               total=round(count * share))):
            if index % every == 0 and len(runs) < wanted:
                runs.append([])
                begun = image.received_ns
            if runs and len(runs[-1]) < length and index % every < length:
                path = self._folder / f'{index:06}.png'
                keep_image(path, image.image)
                before = runs[-1][-1].at_s if runs[-1] else 0.0         # a recorder's clock may be set back
                runs[-1].append(Frame(self._seen(image.image), max(before, (image.received_ns - begun) / 1e9), path))
        return runs

    def _seen(self, image: np.ndarray) -> np.ndarray:
        pixels = self.model.preprocessor(image)[0] * self._std + self._mean
        return (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()

    def forget(self) -> None:
        """Look anew at what was looked at."""
        self._known.clear()

    @property
    def rate_hz(self) -> float:
        """Frames a second, the median."""
        gaps = [after.at_s - before.at_s for run in self.runs for before, after in zip(run, run[1:], strict=False)]
        return 1 / max(float(np.median(gaps)), 1e-3) if gaps else 10.0

    def normalised(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """Pictures uint8 [h, w, 3] in the model's size to its input, float32 [n, 3, h, w]."""
        return (torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255 - self._mean) / self._std

    @torch.inference_mode()
    def look(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities float32 [n, classes] of the uncut model; a picture that was seen before is not looked at again."""
        keys = [hashlib.blake2b(picture.tobytes(), digest_size=16).digest() for picture in pictures]
        new = [(key, picture) for key, picture in dict(zip(keys, pictures, strict=True)).items() if key not in self._known]
        for at in range(0, len(new), _BATCH):
            part = new[at:at + _BATCH]
            found = self.model.split.whole(self.normalised([picture for _, picture in part])).softmax(1).numpy()
            self._known.update(zip((key for key, _ in part), found, strict=True))
        return np.stack([self._known[key] for key in keys])


def measured(work: Callable[[], object]) -> float:
    """Seconds of a computation on this machine: the median of a few, after one to warm up."""
    times = []
    with torch.inference_mode():
        work()
        for _ in range(_MEASURED):
            with Stopwatch() as watch:
                work()
            times.append(watch.seconds)
    return float(np.median(times))


class Stopwatch:
    """Seconds of a computation: by the clock, or of processor time where that is less, since others kept the machine busy then."""

    def __enter__(self) -> Stopwatch:
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = min(time.perf_counter() - self._began[0], time.process_time() - self._began[1])
