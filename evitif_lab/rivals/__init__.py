"""What a robot would send instead: video and pictures behind parity. The benchmarks and `evitif compare` measure them."""
