"""Repairs of Linux guests. A file per thing that is repaired."""
