"""What ends a run in the middle of it, within the process that a test is."""

import os
import signal

import pytest


def crash():
    raise RuntimeError("power cut")


def ask_to_stop():
    os.kill(os.getpid(), signal.SIGTERM)


EVENTS = [crash, ask_to_stop]


def interrupt(monkeypatch, module, event, config, path):
    """`module.fit(config, path)`, in whose third chunk `event` happens."""
    calls, job_of = [], module._job

    def disturbed(*arguments):
        job = job_of(*arguments)

        def advance(state):
            calls.append(1)
            if len(calls) == 3:
                event()
            return job.advance(state)

        return job._replace(advance=advance)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_job", disturbed)
        if event is crash:
            pytest.raises(RuntimeError, module.fit, config, path)
        else:
            assert not module.fit(config, path)
