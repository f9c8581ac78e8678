"""Checks numpy over arrays of BYTES in all against values known beforehand: sums, sorts, fancy indexing, copies.

usage: arrays.py BYTES ROUNDS
"""

import sys

import numpy as np

total, rounds = int(sys.argv[1]), int(sys.argv[2])
count = total // 8 // 4  # four arrays of 64-bit numbers live at a time


def check(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found}, must be {expected}")


for seed in range(1, rounds + 1):
    # Multiplication by an odd number is a bijection of 0..2**k, so order, sum and place of each number are known.
    bits = count.bit_length() - 1
    size = 1 << bits
    odd = np.uint64((0x9E3779B97F4A7C15 * (2 * seed + 1) | 1) % size)
    mask = np.uint64(size - 1)
    base = np.arange(size, dtype=np.uint64)
    mixed = (base * odd) & mask
    check("sum", int(mixed.sum()), size * (size - 1) // 2)
    check("xor", int(np.bitwise_xor.reduce(mixed)), int(np.bitwise_xor.reduce(base)))

    ordered = np.sort(mixed)
    check("sorted", bool((ordered == base).all()), True)

    # mixed[i] = odd * i, so i lies at the place that the inverse of odd gives. Those places are scattered over everything, and
    # each may cost a read of the disk: one in some hundred is looked at. Neighbours are permuted all of them.
    inverse = np.uint64(pow(int(odd), -1, size))
    some = base[:: size >> 14]
    check("fancy index", bool((mixed[(some * inverse) & mask] == some).all()), True)
    places = base ^ np.uint64(0x3F)
    check("fancy neighbours", bool((base[places] == places).all()), True)
    ordered[places] = mixed
    check("fancy assignment", int(ordered[5 ^ 0x3F]), int(mixed[5]))
    check("fancy sum", int(ordered.sum()), size * (size - 1) // 2)

    # Growing a list of blocks moves memory by realloc; a view with stride touches every page a little.
    ordered.resize(size + size // 8, refcheck=False)
    check("grown tail", int(ordered[size:].sum()), 0)
    check("stride", int(mixed[::512].sum()), sum((512 * i * int(odd)) % size for i in range(len(mixed[::512]))))

    reals = mixed[: size // 2].astype(np.float64)
    check("float sum", float(reals.sum()), float(sum(int(part.sum()) for part in np.array_split(mixed[: size // 2], 64))))
    del base, mixed, ordered, places, reals
    print("round", seed, flush=True)

print("arrays verified")
