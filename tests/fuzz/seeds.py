#!/usr/bin/env python3
"""Write the seeds of tests/fuzz/seeds/<target> anew (those named found-* broke something once, and stay).

    tests/fuzz/seeds.py
"""
import gzip
import struct
from pathlib import Path

HERE = Path(__file__).resolve().parent
IMAGES, LABELS = b"\0", b"\1"  # the first byte of a seed: what is looked for, and all of it
PART = b"\4"                   # 3 images

DIGEST = "0123456789abcdef" * 4
NAME = "checkpoint-00000600.h5"


def images(count=6, height=4, width=5):
    return struct.pack(">IIII", 0x803, count, height, width) + bytes(k % 251 for k in range(count * height * width))


def labels(count=6):
    return struct.pack(">II", 0x801, count) + bytes(k % 3 for k in range(count))


def packed(data):
    return gzip.compress(data, mtime=0)


def manifest(*sizes):
    return "# hsgd-dist manifest 1\n" + "".join(f"# {size} bytes\n{DIGEST}  {NAME}\n" for size in sizes)


def decks():
    yield "short", "[run]\nstages = train eigen\n\n[train]\nepochs = 3 ; passes\nschedule = step 2 0.5\n"
    yield "long_value", "[model]\nlayers = conv 4 5 / relu / \\\n   maxpool 2 / \\\n   linear 10\n"
    yield "texts", "[run]\noutput = r\u00e9sultats\n[data]\nnormalize = 0.1307 0.3081\n[hessian]\ncache = 512M\n"
    yield "landscape", ("[landscape]\ndirections = eigenvector random gradient file2\nvectors = v.h5\n"
                        "plane = eigenvector1 random\n")
    yield "marked", "\ufeff[run]\r\nseed = 7\r\n# a comment\r\n"
    yield "characters", "[run]\noutput = a" + "\u20ac" * 30 + "\\\n" + "\u20ac" * 30 + "\n"
    yield "late_stages", ("[run]\nstages = hvp trace density\n[hvp]\nvectors = v.h5\n[trace]\nmethod = hutch++\n"
                          "[density]\naccuracy = 0.05\n")


def command_lines():
    yield "help", "\n--help"
    yield "words", "\ninputs/quick.ini\ntrain.lr=0.1\nrun.output= there \n--restart\n--quiet"
    yield "layers", "\nmodel.layers=conv 4 5 / tanh / avgpool 2 / linear 10\nrun.stages=eigen\nrun.time_limit=auto"
    yield "power", "|eigen.method=power|eigen.which=magnitude|train.momentum=0.9|train.nesterov=true|--dry-run"
    yield "unset", "\n\n--verbose"


def idx_files():
    yield "images", IMAGES + images()
    yield "some_images", PART + images()
    yield "labels", LABELS + labels()
    yield "swapped", IMAGES + labels()
    yield "reversed", IMAGES + struct.pack("<IIII", 0x803, 6, 4, 5) + bytes(120)
    yield "floats", IMAGES + struct.pack(">IIII", 0xd03, 6, 4, 5) + bytes(480)
    yield "huge", IMAGES + struct.pack(">IIII", 0x803, 0xffffffff, 4096, 4096)
    yield "web_page", IMAGES + b"<html></html>"


def gzip_files():
    yield "images", IMAGES + packed(images())
    yield "some_images", PART + packed(images())
    yield "labels", LABELS + packed(labels())
    yield "two_members", LABELS + packed(labels()[:9]) + packed(labels()[9:])
    yield "empty_members", LABELS + packed(b"") * 3 + packed(labels()) + packed(b"")
    yield "twice", IMAGES + packed(packed(images()))
    yield "bomb", PART + packed(images(400, 20, 20)[:16] + bytes(400 * 400))
    yield "bomb_behind", LABELS + packed(labels() + bytes(100000))
    yield "promises", IMAGES + packed(struct.pack(">IIII", 0x803, 0xffffffff, 4096, 4096))
    yield "promises_a_little_more", LABELS + packed(struct.pack(">II", 0x801, 100000))
    yield "cut", IMAGES + packed(images())[:-6]


def manifests():
    yield "one", manifest(123456)
    yield "two", manifest(0, 2**63 - 1)
    yield "leading_zero", manifest("0123456")
    yield "too_large", manifest(2**63)
    yield "three", manifest(1, 2, 3)


def write(target, seeds):
    folder = HERE / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in seeds:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


if __name__ == "__main__":
    write("deck", decks())
    write("command_line", command_lines())
    write("idx", idx_files())
    write("idx_gzip", gzip_files())
    write("manifest", manifests())
