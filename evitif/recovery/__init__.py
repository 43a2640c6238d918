"""What is done about lost tokens between head and tail: PALDN and its baselines."""

from evitif.recovery.artifact import ArtifactError, load_paldn, save_paldn
from evitif.recovery.methods import METHODS, Mean, Omission, Recovered, Recovery, Zero
from evitif.recovery.paldn import Paldn

__all__ = ['METHODS', 'ArtifactError', 'Mean', 'Omission', 'Paldn', 'Recovered', 'Recovery', 'Zero', 'load_paldn',
           'save_paldn']
