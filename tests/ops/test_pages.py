"""Memory of large results is handed out again, and never while anybody can see it."""

import gc
import threading

import numpy as np
import pytest

import normexp as nx
from normexp.backends.pages import SHELF, SMALLEST, Shelf

LARGE = SMALLEST // 4 + 1  # float32
f4 = np.dtype(np.float32)


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_is_handed_out_again_when_the_last_view_is_gone():
    shelf = Shelf(4 * SMALLEST)
    first = shelf.empty((LARGE,), f4)
    first[:] = 1.0
    place, view = address(first), first[5:9].reshape(2, 2)
    del first
    second = shelf.empty((LARGE,), f4)
    assert address(second) != place
    second[:] = 2.0
    assert (view == 1.0).all()
    del view
    assert address(shelf.empty((LARGE,), f4)) == place


def test_results_come_from_it_and_do_not_share():
    logits = np.random.default_rng(0).standard_normal((LARGE // 8 + 1, 8)).astype(np.float32)
    first = nx.softmax(logits)
    kept = first.copy()
    places = set()
    for _ in range(4):
        again = nx.softmax(logits)
        assert not np.shares_memory(first, again)
        places.add(address(again))
        assert again.flags.writeable
        assert again.flags.c_contiguous
    assert np.array_equal(first, kept)
    assert len(places) <= 2  # the one before is let go only when the next is there


def test_no_more_is_kept_than_the_limit():
    shelf = Shelf(3 * SMALLEST)
    arrays = [shelf.empty((LARGE,), f4) for _ in range(5)]
    del arrays
    assert sum(held.size for held in shelf._held) <= 3 * SMALLEST
    assert len(shelf._held) == 2
    larger = shelf.empty((2 * LARGE,), f4)  # what is kept does not fit, and makes room
    del larger
    assert sum(held.size for held in shelf._held) <= 3 * SMALLEST
    shelf.limit = 0
    shelf.trim()
    assert not shelf._held
    assert shelf.empty((LARGE,), f4).base is None


def test_much_larger_memory_stays_where_it_is():
    shelf = Shelf(8 * SMALLEST)
    place = address(shelf.empty((3 * LARGE,), f4))
    assert address(shelf.empty((LARGE,), f4)) != place
    assert address(shelf.empty((3 * LARGE - 7,), f4)) == place


def test_threads_never_get_the_same_memory():
    shelf = Shelf(8 * SMALLEST)
    wrong = []

    def work(number):
        for _ in range(20):
            mine = shelf.empty((LARGE,), f4)
            mine[::4096] = number
            if (mine[::4096] != number).any():
                wrong.append(number)
            del mine

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_small_results_and_odd_dtypes():
    assert SHELF.empty((10,), f4).base is None
    shelf = Shelf(4 * SMALLEST)
    assert shelf.empty((LARGE, 2), np.dtype(np.float16)).shape == (LARGE, 2)
    gc.collect()


@pytest.mark.parametrize("n", [-1, 1.5, True, "all"])
def test_a_wrong_limit_is_told(n):
    with pytest.raises(nx.NormexpError, match=r"set_kept_memory: n is .*; a whole number of bytes of at least 0"):
        nx.set_kept_memory(n)
