"""What all commands share: types of options, progress on the terminal, and how a command ends."""
