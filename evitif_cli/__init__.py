"""The console command `evitif`: one verb a module; `main.py` has the tree."""

from evitif_cli.main import main

__all__ = ['main']
