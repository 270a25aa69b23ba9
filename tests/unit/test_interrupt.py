import os
import signal
import threading

import pytest

from pgd_jax import interrupt


def handlers():
    return signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_only_sets_the_flag(number):
    before = handlers()
    with interrupt.graceful() as stop:
        assert not stop and stop.signal == ""
        os.kill(os.getpid(), number)
        assert stop and stop.signal == number.name
    assert handlers() == before


def test_repeated_sigterm_is_patient_and_a_second_sigint_raises():
    before = handlers()
    with interrupt.graceful() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert stop
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(5)
    assert handlers() == before


def test_the_handlers_come_back_after_an_error():
    before = handlers()
    with pytest.raises(RuntimeError), interrupt.graceful():
        assert handlers() != before
        raise RuntimeError
    assert handlers() == before


def test_another_thread_gets_a_flag_and_installs_nothing():
    before, seen = handlers(), []

    def work():
        with interrupt.graceful() as stop:
            seen.append((bool(stop), handlers()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
