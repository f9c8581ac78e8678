"""Fills a table of MIB with numbers and, while it is told to, sums blocks of it at random and compares with what was written.

Orders on standard input: busy, idle, quit. Says FILLED BLOCKS, OPS BLOCKS-SUMMED, at last VERIFIED BLOCKS.
usage: table.py MIB
"""

import sys
import threading
import time

import numpy as np

BLOCK = 4096  # numbers: 32 KiB
blocks = int(sys.argv[1]) * 32
rng = np.random.default_rng(1)
table = np.empty((blocks, BLOCK), dtype=np.uint64)
sums = np.zeros(blocks, dtype=np.uint64)
for at in range(blocks):
    table[at] = rng.integers(0, 1 << 40, BLOCK, dtype=np.uint64)
    sums[at] = table[at].sum()
order = "idle"


def listen():
    global order
    for line in sys.stdin:
        order = line.strip()
    order = "quit"


def check(at):
    if table[at].sum() != sums[at]:
        sys.exit(f"block {at} is not what was written")


print("FILLED", blocks, flush=True)
threading.Thread(target=listen, daemon=True).start()
ops, said = 0, time.monotonic()
while order != "quit":
    if order != "busy":
        time.sleep(0.02)
        continue
    for at in rng.integers(0, blocks, 256):
        check(at)
        # One in eight is changed, so that stores must hold what is newest.
        if at % 8 == ops % 8:
            table[at, ops % BLOCK] += np.uint64(1)
            sums[at] += np.uint64(1)
        ops += 1
    if time.monotonic() - said > 0.2:
        said = time.monotonic()
        print("OPS", ops, flush=True)
for at in range(blocks):
    check(at)
print("VERIFIED", blocks, flush=True)
