"""The compiled side of a run: program, lanes, phases, and the training of a denoiser."""
