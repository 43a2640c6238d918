"""The console command `evitif`: one verb a module."""

from evitif_cli.main import main

__all__ = ['main']
