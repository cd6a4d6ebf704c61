"""VFIO_USER_VERSION: what is agreed on, and who is sent away."""

import errno
import json
import struct

import pytest

from raw import (GET_INFO, REGION_READ, REPLY, VERSION, Refused, capabilities, message, refused)

OURS = {"max_msg_fds": 16, "max_data_xfer_size": 65536, "max_dma_maps": 65535, "pgsizes": 4096,
        "write_multiple": False}


def offer(connect, server, data, major=0, minor=1):
    c = connect(server, version=None)
    return c, c.negotiate(major, minor, data)


@pytest.mark.parametrize("data", [
    b"",  # SPDK's client says nothing
    b"{}\0",
    b'{"capabilities":{}}\0',
    b' {\n\t"capabilities" : { } } \n\0',
    capabilities(max_msg_fds=1, max_data_xfer_size=1, max_dma_maps=1, pgsizes=1),
    capabilities(max_msg_fds=2**31, max_data_xfer_size=2**40, max_dma_maps=2**53, pgsizes=2**40),
    capabilities(write_multiple=False),
    capabilities(twin_socket={"supported": False}),
    capabilities(migration={"pgsize": 4096}),  # gone from the text, still sent
    capabilities(migration={"pgsize": 4096, "max_bitmap_size": 1 << 20}),
    capabilities(unheard_of=[1, {"a": None}]),
    b'{"capabilities":{"max_msg_fds":8},"vendor":{"x":1.5}}\0',
    json.dumps({"capabilities": {"padding": "x" * 3900}}).encode() + b"\0",
], ids=lambda data: data[:60].decode())
def test_good_offers(edu, connect, data):
    c, (major, minor, ours) = offer(connect, edu, data)
    assert (major, minor) == (0, 1)
    assert ours == OURS
    assert c.device_info()[0] == 16


def test_write_multiple_is_agreed_on_when_both_know_it(edu, connect):
    _, (_, _, ours) = offer(connect, edu, capabilities(write_multiple=True))
    assert ours == {**OURS, "write_multiple": True}


@pytest.mark.parametrize("asked, agreed", [(0, 0), (1, 1), (2, 1), (0xffff, 1)])
def test_minor_is_the_smaller_one(edu, connect, asked, agreed):
    assert offer(connect, edu, b"", minor=asked)[1][:2] == (0, agreed)


@pytest.mark.parametrize("data", [
    b'{"capabilities":{}}',  # no NUL
    b"\0",
    b"x",
    b"{\0",
    b"[]\0",
    b"null\0",
    b"17\0",
    b'"capabilities"\0',
    b'{"capabilities":[]}\0',
    b'{"capabilities":null}\0',
    b'{"capabilities":{}}x\0',
    b'{"capabilities":{}}{}\0',
    b'{"capabilities":{}\0}\0',
    b'{"capabilities":{"max_msg_fds":8}\0',
    capabilities(max_msg_fds=0),
    capabilities(max_msg_fds=-1),
    capabilities(max_msg_fds="8"),
    capabilities(max_msg_fds=1.5),
    capabilities(max_msg_fds=True),
    capabilities(max_msg_fds=None),
    capabilities(max_data_xfer_size=0),
    capabilities(max_data_xfer_size=2**64),
    capabilities(max_dma_maps=[]),
    capabilities(pgsizes=0),
    capabilities(pgsizes={}),
    capabilities(write_multiple=1),
    capabilities(write_multiple="true"),
    capabilities(twin_socket=True),
    capabilities(twin_socket={"supported": 1}),
    capabilities(twin_socket={"supported": True, "fd_index": -1}),
    capabilities(twin_socket={"supported": True, "fd_index": 1 << 40}),
    b'{"capabilities":' + b'{"a":' * 40 + b"1" + b"}" * 41 + b"\0",
    b'{"capabilities":{"max_msg_fds":99999999999999999999999}}\0',
    b"\xff\xfe\xfd\0",
], ids=lambda data: data[:60].decode(errors="backslashreplace"))
def test_bad_offers_end_the_connection(edu, connect, data):
    c = connect(edu, version=None)
    with refused(errno.EINVAL):
        c.negotiate(data=data)
    assert c.is_closed()
    assert connect(edu).device_info()[0] == 16  # the next is welcome


@pytest.mark.parametrize("major", [1, 2, 0xffff])
def test_another_major_version(edu, connect, major):
    c = connect(edu, version=None)
    with refused(errno.ENOTSUP):
        c.negotiate(major, 0)
    assert c.is_closed()
    assert f"version {major}.0" in edu.log.read_text()
    connect(edu)


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0\0"])
def test_a_version_without_its_fixed_part(edu, connect, body):
    c = connect(edu, version=None)
    with refused(errno.EINVAL):
        c.call(VERSION, body)
    assert c.is_closed()


def test_a_second_version_is_refused_and_changes_nothing(edu, connect):
    c = connect(edu)
    with refused(errno.EINVAL):
        c.negotiate(data=capabilities(max_data_xfer_size=1))
    assert c.device_info()[0] == 16


@pytest.mark.parametrize("command, body", [(GET_INFO, struct.pack("=IIII", 16, 0, 0, 0)),
                                           (REGION_READ, struct.pack("=QII", 0, 0, 4)),
                                           (0, b""), (14, b""), (0xffff, b"")])
def test_other_commands_must_wait_for_the_version(edu, connect, command, body):
    c = connect(edu, version=None)
    with refused(errno.EINVAL):
        c.call(command, body)
    assert c.is_closed()
    assert edu.log.read_text().count("does not begin with a version message") == 1
    connect(edu)


def test_a_reply_is_no_beginning(edu, connect):
    c = connect(edu, version=None)
    c.send(VERSION, struct.pack("=HH", 0, 1), flags=REPLY)
    assert c.socket.recv(1) == b""  # nor is it answered


def test_a_version_longer_than_any(edu, connect):
    c = connect(edu, version=None)
    c.send(VERSION, struct.pack("=HH", 0, 1) + capabilities(padding="x" * 5000))
    assert c.receive().error == errno.EINVAL
    assert c.is_closed()
    connect(edu)


def test_version_byte_by_byte(edu, connect):
    c = connect(edu, version=None)
    for byte in message(VERSION, struct.pack("=HH", 0, 1) + capabilities(max_msg_fds=8), id=9):
        c.send_bytes(bytes([byte]))
    assert c.check(c.receive(), VERSION, 9).body[:4] == struct.pack("=HH", 0, 1)


def test_version_with_descriptors_is_refused(edu, connect, memory):
    c = connect(edu, version=None)
    with refused(errno.EINVAL):
        c.call(VERSION, struct.pack("=HH", 0, 1), fds=[memory(4096)])
    assert c.is_closed()


def test_commands_right_behind_the_version(edu, connect):
    """A client that does not wait for the version's reply is served in order."""
    c = connect(edu, version=None)
    c.send_bytes(message(VERSION, struct.pack("=HH", 0, 1), id=1) +
                 message(GET_INFO, struct.pack("=IIII", 16, 0, 0, 0), id=2))
    assert c.check(c.receive(), VERSION, 1)
    assert len(c.check(c.receive(), GET_INFO, 2).body) == 16


def test_a_refused_version_ends_what_came_behind_it(edu, connect):
    c = connect(edu, version=None)
    c.send_bytes(message(VERSION, struct.pack("=HH", 7, 0), id=1) +
                 message(GET_INFO, struct.pack("=IIII", 16, 0, 0, 0), id=2))
    with pytest.raises(Refused):
        c.check(c.receive(), VERSION, 1)
    assert c.is_closed()
