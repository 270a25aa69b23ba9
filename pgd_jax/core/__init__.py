"""What everything stands on: types, errors, settings, registries; devices, processes, memory, signals, files."""
