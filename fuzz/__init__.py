"""Coverage-guided fuzzing of every parser and state machine: `evitif fuzz`, from the source tree."""
