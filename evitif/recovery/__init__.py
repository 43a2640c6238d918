"""What is done about lost tokens between head and tail: PALDN, linear completion, omission, and what is filled in without training."""

from evitif.recovery.artifact import LEARNED, ArtifactError, load_recovery, save_recovery
from evitif.recovery.linear import LearnedRecovery, LinearCompletion
from evitif.recovery.memory import Memories, Memory, StreamMemory
from evitif.recovery.methods import METHODS, Interpolation, Mean, Omission, Recovered, Recovery, Sequence, Zero
from evitif.recovery.paldn import Paldn

__all__ = ['LEARNED', 'METHODS', 'ArtifactError', 'Interpolation', 'LearnedRecovery', 'LinearCompletion', 'Mean', 'Memories', 'Memory',
           'Omission', 'Paldn', 'Recovered', 'Recovery', 'Sequence', 'StreamMemory', 'Zero', 'load_recovery', 'save_recovery']
