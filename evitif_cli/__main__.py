"""`python -m evitif_cli`: the console command where it is not installed."""

import sys

from evitif_cli.main import main

sys.exit(main())
