"""How a model is divided: class subsets, importance, pruning, and which device gets which sub-model."""
