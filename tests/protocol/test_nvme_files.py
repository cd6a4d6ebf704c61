"""`outboard serve nvme`: files that cannot be a disk, and words that make no sense."""

import os
import subprocess

import pytest

from program import OUTBOARD

KIB = 1 << 10


def image(folder, size=64 * KIB, name="disk"):
    path = folder / name
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def fails(folder, words, *arguments, prefix=()):
    """It ends with 1 after lines of which one holds these words, and leaves no socket."""
    done = subprocess.run([*prefix, OUTBOARD, "serve", "nvme", *map(str, arguments),
                           f"--socket-path={folder}/s"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("outboard: nvme"), done.stderr
    assert all(word in lines[0] for word in words), done.stderr
    assert not (folder / "s").exists()


def test_missing(tmp_path):
    fails(tmp_path, ["nowhere", "No such file"], f"file={tmp_path}/nowhere")


def test_no_file_at_all(tmp_path):
    done = subprocess.run([OUTBOARD, "serve", "nvme", f"--socket-path={tmp_path}/s"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "file" in done.stderr


def test_empty(tmp_path):
    fails(tmp_path, ["empty", "truncate"], f"file={image(tmp_path, 0)}")


@pytest.mark.parametrize("size, block", [(511, 512), (4095, 4096)])
def test_smaller_than_a_block(tmp_path, size, block):
    fails(tmp_path, ["smaller than a block", str(block)], f"file={image(tmp_path, size)}",
          f"lba={block}")


@pytest.mark.parametrize("kind", ["folder", "pipe", "/dev/null", "/dev/zero"])
def test_no_file_to_be_a_disk(tmp_path, kind):
    path = kind if kind.startswith("/") else tmp_path / kind
    if kind == "folder":
        path.mkdir()
        fails(tmp_path, [str(path), "Is a directory"], f"file={path}")
        return
    elif kind == "pipe":
        os.mkfifo(path)
    fails(tmp_path, [str(path), "neither a file nor a block device"], f"file={path}")
    fails(tmp_path, [str(path)], f"file={path}", "readonly=on")


# Root may read everything: as another user, in the way that a system's service would be.
@pytest.fixture
def user(tmp_path):
    if os.geteuid():
        return ()
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder.stat().st_mode & 0o5 != 0o5 and "pytest" in str(folder):
            folder.chmod(0o755)
    tmp_path.chmod(0o777)
    return ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")


def test_unreadable(tmp_path, user):
    path = image(tmp_path)
    path.chmod(0)
    fails(tmp_path, [str(path), "Permission denied"], f"file={path}", prefix=user)


def test_read_only_file(tmp_path, user, serve):
    path = image(tmp_path)
    path.chmod(0o444)
    fails(tmp_path, [str(path), "Permission denied", "readonly=on"], f"file={path}", prefix=user)
    serve("nvme", f"file={path}", "readonly=on")


def test_oddly_sized(serve, tmp_path):
    server = serve("nvme", f"file={image(tmp_path, 64 * KIB + 100)}")
    assert "the last 100 bytes are not served" in server.log.read_text()


def test_locked(serve, tmp_path):
    path = image(tmp_path)
    server = serve("nvme", f"file={path}")
    fails(tmp_path, [str(path), "another process serves this file"], f"file={path}")
    fails(tmp_path, [str(path), "another process serves this file"], f"file={path}", "readonly=on")
    server.kill()
    server.socket.unlink()
    serve("nvme", f"file={path}")


def test_readers_share(serve, tmp_path):
    path = image(tmp_path)
    serve("nvme", f"file={path}", "readonly=on")
    serve("nvme", f"file={path}", "readonly=on")
    fails(tmp_path, ["another process"], f"file={path}")


def test_twice_the_same(tmp_path):
    path = image(tmp_path)
    fails(tmp_path, [str(path)], f"file={path}", f"file={path}")


def test_second_file_is_bad(tmp_path):
    fails(tmp_path, ["nowhere"], f"file={image(tmp_path)}", f"file={tmp_path}/nowhere")


def test_too_many(tmp_path):
    files = [f"file={image(tmp_path, name=f'disk{i}')}" for i in range(17)]
    fails(tmp_path, ["at most 16"], *files)


@pytest.mark.parametrize("word", [
    "lba=1024", "lba=", "queues=0", "queues=65", "queues=two", "readonly=perhaps", "direct=1x",
    "serial=" + "x" * 21, "serial=a\tb", "engine=steam"])
def test_words(tmp_path, word):
    fails(tmp_path, [word.split("=")[0]], f"file={image(tmp_path)}", word)
