"""What trainings and evaluations need of data sets beside reading them: download, division, identity."""
