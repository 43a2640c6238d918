"""Says what it put into a message, and which package the message is from."""

from pathlib import Path

import evitif_msgs
from evitif_msgs.msg import Prediction

prediction = Prediction(robot='rover', class_ids=[134, 517])
prefix = next(folder for folder in Path(evitif_msgs.__file__).parents if folder.name == 'lib').parent
print(f'classes {", ".join(map(str, prediction.class_ids))} of {prediction.robot}, {prefix}')
