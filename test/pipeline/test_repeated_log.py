"""One message of a kind now and then."""

import logging

from evitif.repeated_log import RepeatedLog


def test_the_first_of_a_kind_is_passed_on_and_then_one_in_ten_seconds_with_their_number():
    now, logged = [0.0], []
    log = RepeatedLog(lambda level, text: logged.append((now[0], level, text)), clock=lambda: now[0])
    for step in range(500):        # 25 s at 20 a second
        now[0] = step / 20
        log(logging.ERROR, f'image {step} failed', 'image')
        if step == 100:
            log(logging.WARNING, 'something else')
    assert logged == [(0.0, logging.ERROR, 'image 0 failed'), (5.0, logging.WARNING, 'something else'),
                      (10.0, logging.ERROR, 'image 200 failed (200 such in the last 10 s)'),
                      (20.0, logging.ERROR, 'image 400 failed (200 such in the last 10 s)')]


def test_kinds_from_the_network_do_not_fill_the_memory():
    log = RepeatedLog(lambda level, text: None)
    for name in range(10_000):
        log(logging.ERROR, f'robot {name} refused')
    assert len(log._kinds) <= 64
