"""Foundations: types, errors, settings, registries; devices, processes, memory, signals, files."""
