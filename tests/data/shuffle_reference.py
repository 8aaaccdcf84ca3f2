#!/usr/bin/env python3
"""The permutations of test_batch.c, computed apart from the C sources: Philox4x32-10 as its paper defines it
(doi:10.1145/2063384.2063405), and Fisher-Yates from the last place down."""

SHUFFLE = 2  # the purpose of these random numbers, a word of the counter


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b % 2**32, (a >> 32) ^ c[3] ^ k[1], a % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def shuffle(seed, epoch, count):
    order = list(range(count))
    for i in range(count - 1, 0, -1):
        words = philox([i % 2**32, i >> 32, epoch, SHUFFLE], [seed % 2**32, seed >> 32])
        j = (words[0] + (words[1] << 32)) * (i + 1) >> 64
        order[i], order[j] = order[j], order[i]
    return order


if __name__ == "__main__":
    # the known answer of Random123 for the counter and key of all ones
    assert philox([2**32 - 1] * 4, [2**32 - 1] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    print(shuffle(1, 0, 10))
    print(shuffle(0x123456789ABCDEF0, 41, 10))
