"""The topics of a head: what it says of each image, and whether somebody reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from evitif.vocabulary import Task
from evitif_msgs.msg import Prediction
from evitif_ros import messages

if TYPE_CHECKING:
    from evitif.heads.artifact import HeadDescription
    from evitif.pipeline.prediction import Prediction as Answered

OF_CLASSES = ('*/prediction', '*/classification')       # of every head that classifies, as they are before remapping
OF_VECTORS = ('embedding',)
OF_LABELS = ('*/labels', '*/label_info', '*/vision_info')


class HeadTopics:
    """:param advertise: makes a publisher of a type on a topic
    :param prefix: before the topics, with a slash at its end
    """

    def __init__(self, about: HeadDescription, advertise: Callable[[type, str], Any], prefix: str = ''):
        self.about = about
        self._predictions = self._classifications = self._vectors = None
        if about.task == Task.CLASSIFY:
            self._predictions = advertise(Prediction, f'{prefix}{about.name}/prediction')
            if messages.Classification is not None:
                self._classifications = advertise(messages.Classification, f'{prefix}{about.name}/classification')
        elif about.task == Task.EMBED:
            self._vectors = advertise(Image, f'{prefix}embedding')

    def publishers(self) -> list:
        """All of them."""
        return [each for each in (self._predictions, self._classifications, self._vectors) if each is not None]

    def read(self) -> bool:
        """Whether somebody subscribes to one of them."""
        return any(publisher.get_subscription_count() for publisher in self.publishers())

    def publish(self, result: Any, prediction: Answered, header: Header, robot: str) -> None:
        """Publish what the head says (`evitif.heads.results`, by its task) of the image that `prediction` is of."""
        if self._predictions is not None:
            own = dataclasses.replace(prediction, class_ids=result.class_ids, scores=result.scores,
                                      labels=tuple(self.about.labels[index] for index in result.class_ids))
            self._predictions.publish(messages.prediction_message(own, header, robot))
            if self._classifications is not None:
                self._classifications.publish(messages.classification_message(own, header))
        elif self._vectors is not None:
            self._vectors.publish(vector_message(result.vector, header))


def vector_message(vector: np.ndarray, header: Header) -> Image:
    """A vector float32 [D] as an image 32FC1 of one row, which every tool reads."""
    return Image(header=header, height=1, width=len(vector), encoding='32FC1', is_bigendian=0, step=4 * len(vector),
                 data=vector.astype('<f4').tobytes())
