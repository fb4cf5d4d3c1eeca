"""Runs at the start of every Python that has this folder on PYTHONPATH, and breaks it where a test asks for it.

SABOTAGE is JSON. {"at": "replace", "path": "*.tar", "when": "after"} kills the process after it moved a file to a name
like that; "fsync" and "member" (a file added to a tar) work alike, "nth" counts the calls, and "once" names a file
that is made when it happens, so that it happens in one process only. {"clips": {"abc": "segfault"}} does that to
the decoder at the clips with that id; with "once" to the first one only. {"files": {"a.wav": "segfault"}} does it at
every other request for a file of that name. A list holds several of these.
"""

import ctypes
import fnmatch
import json
import os
import signal
import sys


def install(sabotage):
    if "clips" in sabotage:
        if "cavsync.pipeline.decoding.worker" in sys.orig_argv:
            break_decoder(sabotage["clips"], sabotage.get("once"))
    elif "files" in sabotage:
        if "cavsync.pipeline.decoding.worker" in sys.orig_argv:
            break_files(sabotage["files"])
    elif sabotage["at"] == "member":
        import tarfile

        wrap(tarfile.TarFile, "addfile", sabotage, lambda tar, info, *_: info.name)
    elif sabotage["at"] == "fsync":
        wrap(os, "fsync", sabotage, lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))
    else:
        wrap(os, "replace", sabotage, lambda source, target, **_: os.fspath(target))


def wrap(owner, name, sabotage, path_of):
    original = getattr(owner, name)
    calls = 0

    def wrapped(*arguments, **options):
        nonlocal calls
        hit = fnmatch.fnmatch(path_of(*arguments), sabotage["path"])
        calls += hit
        due = hit and calls == sabotage.get("nth", 1)
        if due and sabotage["when"] == "before":
            kill(sabotage.get("once"))
        result = original(*arguments, **options)
        if due:
            kill(sabotage.get("once"))
        return result

    setattr(owner, name, wrapped)


def kill(once):
    if is_first(once):
        os.kill(os.getpid(), signal.SIGKILL)


def is_first(once):
    if once is None:
        return True
    try:
        open(once, "x").close()
    except FileExistsError:
        return False
    return True


def break_decoder(clips, once):
    import cavsync.pipeline.decoding.clip as owner

    original = owner.prepare_clip

    def prepare_clip(row, config, source=None):
        harm = clips.get(row.clip_id)
        if harm is not None and is_first(once):
            HARMS[harm]()
        return original(row, config, source)

    owner.prepare_clip = prepare_clip


def break_files(harms):
    from cavsync.pipeline.decoding import span
    from cavsync.pipeline.media.demuxing import duration

    read_segment, duration_s = span.read_segment, duration.duration_s

    def harm(source):
        what = harms.get(os.path.basename(str(source)))
        if what is not None:
            HARMS[what]()

    def harmed_segment(request):
        harm(request.source)
        return read_segment(request)

    def harmed_duration(source, timeout_s):
        harm(source)
        return duration_s(source, timeout_s)

    span.read_segment, duration.duration_s = harmed_segment, harmed_duration


def raise_error():
    raise ValueError("a bug of ours")


HARMS = {
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "be_killed": lambda: os.kill(os.getpid(), signal.SIGKILL),  # as the kernel does when memory is short
    "eat_memory": lambda: bytearray(32 * 2**30),
    "hang": lambda: ctypes.PyDLL(None).sleep(600),  # keeps the interpreter's lock
    "raise": raise_error,
    "unplug": lambda: os.rename(os.environ["VIDEOS"], os.environ["VIDEOS"] + ".gone"),
    "delete": lambda: os.unlink(os.environ["VIDEO"]),
}


if "SABOTAGE" in os.environ:
    for one in json.loads(os.environ["SABOTAGE"]):
        install(one)
