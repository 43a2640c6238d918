"""The latest-frame slot never holds more than one item a key, and nobody waits in vain."""

import threading

from evitif.pipeline.slot import LatestSlots


def test_a_newer_item_replaces_the_one_that_waits_and_keeps_its_turn():
    slots = LatestSlots()
    assert slots.put('a', 1) is None
    assert slots.put('b', 2) is None
    assert slots.put('a', 3) == 1
    assert (slots.take(), slots.take()) == (3, 2)


def test_several_are_taken_in_the_order_in_which_their_keys_filled():
    slots = LatestSlots()
    for key, item in (('a', 1), ('b', 2), ('a', 3), ('c', 4)):
        slots.put(key, item)
    assert slots.take_up_to(2) == [3, 2]
    slots.put('a', 5)                       # behind those that waited longer
    assert slots.take_up_to(9) == [4, 5]
    slots.close()
    assert slots.take_up_to(9) == []


def test_take_waits_for_put():
    slots, taken = LatestSlots(), []
    thread = threading.Thread(target=lambda: taken.append(slots.take()))
    thread.start()
    slots.put('a', 1)
    thread.join(5)
    assert taken == [1]


def test_close_wakes_whoever_waits_and_hands_back_what_is_left():
    slots = LatestSlots()
    thread = threading.Thread(target=slots.take)
    thread.start()
    assert slots.close() == []
    thread.join(5)
    assert not thread.is_alive()
    assert slots.take() is None
    assert slots.put('a', 1) == 1
    full = LatestSlots()
    full.put('a', 1)
    assert full.close() == [1]
    assert full.discard('a') is None
