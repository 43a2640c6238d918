"""A fleet of bridges: the directory as a process, placement on Ray, what is observed. A robot needs none of it."""
