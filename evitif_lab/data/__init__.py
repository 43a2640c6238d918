"""What a data set is, apart from where it lies."""
