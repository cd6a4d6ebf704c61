"""A client that comes right after the one before it has gone."""

import raw


def test_the_next_one_is_let_in_at_once(edu, connect):
    for number in range(100):
        client = raw.Client(edu.socket)
        client.set32(0, 4, number)
        # Not even what it asked for last is waited for.
        client.send_bytes(raw.message(raw.GET_INFO, bytes(16)))
        client.close()
    assert connect(edu).get32(0, 4) == 99 ^ 0xffffffff
