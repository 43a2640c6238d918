"""What a replay leaves: a bag with the images, the answers, the link and the annotated pictures, and a film of these."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from evitif.heads import HeadDescription
from evitif.heads.maps import DepthMap
from evitif.heads.results import Classes, Embedding
from evitif.image_transports import COMPRESSED, FOXGLOVE, IMAGE
from evitif.mask_colours import overlaid
from evitif.message_fields import edge_link_fields, prediction_fields
from evitif.pipeline import EdgeStatistics, Prediction
from evitif.pipeline.arriving_maps import PlaceAnswer
from evitif.recording import RecordedImage
from evitif_lab.replay.film import H264, Mp4, OpenCvFilm, even, pyav
from evitif_lab.replay.messages import Messages

BAG, FILM = 'replay', 'annotated.mp4'
PREDICTION, LINK_STATS, ANNOTATED = 'evitif/prediction', 'evitif/link_stats', 'evitif/annotated_image'
ROBOT = 'robot'
_JPEG_QUALITY = 90


class Output:
    """The folder of a replay; a context. A full disk ends it with OSError, and what was written until then can be read.

    :param folder: for the bag `replay` and the film `annotated.mp4`; a former replay in it is replaced
    :param image_topic: of the images in the bag; '': they are left out
    :param draw: a prediction as a picture, uint8 [H, W, 3] RGB
    :param rate_hz: of the film, where PyAV is not installed
    """

    def __init__(self, folder: Path, image_topic: str, draw: Callable[[Prediction], np.ndarray], rate_hz: float):
        self._folder, self._draw, self._rate_hz = folder, draw, rate_hz
        self._av, self._messages = pyav(), Messages()
        self._image_topic = image_topic.strip('/')
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / BAG, ignore_errors=True)
        self._writer = Writer(folder / BAG, version=9, storage_plugin=StoragePlugin.MCAP)
        self._connections: dict[str, Any] = {}
        self._video: H264 | None = None
        self._film: Mp4 | OpenCvFilm | None = None
        self._size = (0, 0)
        self._began: int | None = None

    def __enter__(self) -> Output:
        self._writer.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._film is not None:
            self._film.close()
        self._writer.close()

    def image(self, image: RecordedImage) -> None:
        """An image of the recording, as JPEG beside what came of it."""
        stamp_ns = image.stamp_ns
        if not self._image_topic:
            return
        encoded = cv2.imencode('.jpg', cv2.cvtColor(image.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
        self._write(f'{self._image_topic}/compressed', COMPRESSED, stamp_ns, header=self._messages.header(stamp_ns, image.frame_id),
                    format='rgb8; jpeg compressed bgr8', data=encoded.reshape(-1))

    def prediction(self, prediction: Prediction, heads: Mapping[str, HeadDescription], maps: Sequence[PlaceAnswer] = ()) -> None:
        """An answer with what heads say, and its annotated picture where its image is known, at the time of the image."""
        stamp_ns = prediction.capture_stamp_ns
        self._predicted(PREDICTION, prediction)
        for name, result in prediction.heads.items():
            if isinstance(result, Classes):
                self._predicted(f'evitif/{name}/prediction', replace(prediction, class_ids=result.class_ids, scores=result.scores,
                                labels=tuple(heads[name].labels[index] for index in result.class_ids)))
            elif isinstance(result, Embedding):
                self._image('evitif/embedding', result.vector[None].astype('<f4'), '32FC1', prediction)
        for answer in maps:
            values, confidence = answer.at_image()
            if isinstance(answer.result, DepthMap):
                self._image('evitif/depth/image', answer.metres().astype('<f4'), '32FC1', prediction)
                continue
            for topic, shown in (('mask', values), ('confidence', confidence)):
                self._image(f'evitif/segmentation/{topic}', shown, 'mono8', prediction)
            if prediction.image is not None:
                prediction = replace(prediction, image=overlaid(prediction.image, values, confidence))
        if prediction.image is None:
            return
        picture = even(self._draw(prediction))
        if self._film is None or self._size != picture.shape[:2]:
            self._begin(picture)
        self._began = stamp_ns if self._began is None else self._began
        self._film.add(picture, (stamp_ns - self._began) / 1e9)
        if self._video is not None:
            self._write(ANNOTATED, FOXGLOVE, stamp_ns, timestamp=self._messages.time(stamp_ns), frame_id=prediction.source_frame,
                        data=np.frombuffer(self._video.encode(picture), np.uint8), format='h264')
            return
        encoded = cv2.imencode('.jpg', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
        self._write(f'{ANNOTATED}/compressed', COMPRESSED, stamp_ns, header=self._messages.header(stamp_ns, prediction.source_frame),
                    format='rgb8; jpeg compressed bgr8', data=encoded.reshape(-1))

    def _predicted(self, topic: str, prediction: Prediction) -> None:
        stamp_ns = prediction.capture_stamp_ns
        self._write(topic, 'evitif_msgs/msg/Prediction', stamp_ns, header=self._messages.header(stamp_ns, prediction.source_frame),
                    **prediction_fields(prediction, ROBOT))

    def _image(self, topic: str, values: np.ndarray, encoding: str, of: Prediction) -> None:
        """One channel [H, W] at the time of an image."""
        height, width = values.shape
        self._write(topic, IMAGE, of.capture_stamp_ns, header=self._messages.header(of.capture_stamp_ns, of.source_frame),
                    height=height, width=width, encoding=encoding, step=width * values.itemsize,
                    data=np.ascontiguousarray(values).view(np.uint8).reshape(-1))

    def statistics(self, statistics: EdgeStatistics, stamp_ns: int) -> None:
        """How the link did, when the image of this stamp was answered."""
        self._write(LINK_STATS, 'evitif_msgs/msg/LinkStats', stamp_ns, header=self._messages.header(stamp_ns, ''),
                    **edge_link_fields(statistics, ROBOT, ''))

    def _begin(self, picture: np.ndarray) -> None:
        if self._film is not None:
            self._film.close()
        height, width = self._size = picture.shape[:2]
        path = self._folder / FILM
        self._film = Mp4(self._av, path, height, width) if self._av else OpenCvFilm(path, height, width, self._rate_hz)
        self._video = H264(self._av, height, width) if self._av else None

    def _write(self, topic: str, kind: str, at_ns: int, **fields: Any) -> None:
        name = f'/{topic}'
        if name not in self._connections:
            self._connections[name] = self._writer.add_connection(name, kind, typestore=self._messages.store)
        self._writer.write(self._connections[name], at_ns, self._messages.serialise(self._messages.message(kind, **fields)))
