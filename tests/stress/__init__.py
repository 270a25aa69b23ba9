"""Runs that are killed at any moment, or whose disk is full, and started again: they end as if nothing had happened.

    python -m tests.stress --kills=50 --full_disks=20

`make test-all` runs a few of each (test_stress.py).
"""
