"""`python -m evitif.cli`: the console command where it is not installed."""

import sys

from evitif.cli.main import main

sys.exit(main())
