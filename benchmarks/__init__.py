"""What is measured of evitif: `evitif bench` and `evitif soak`, from the source tree."""
