/* tests/fuzz/idx_gzip.c - how libFuzzer changes the inputs of idx.c where they are gzip: a changed byte of compressed data
 * is found by its CRC and nothing else is reached, so that two changes in three are made to the content, which is
 * compressed anew, in one member or two. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);

enum { CONTENT = 16384, GZIP = 16, SMALL_WINDOW = 9, SMALL_MEMORY = 1 /* quick to set up */ };

/* The content of gzip data[size] into out[CONTENT]: its length, or 0 where there is none. */
static size_t unpack(const uint8_t *data, size_t size, uint8_t *out)
{
    z_stream z = {.next_in = (Bytef *)data, .avail_in = (uInt)size, .next_out = out, .avail_out = CONTENT};

    if (inflateInit2(&z, GZIP + MAX_WBITS) != Z_OK) {
        return 0;
    }
    while (z.avail_in > 0 && inflate(&z, Z_NO_FLUSH) == Z_STREAM_END && inflateReset(&z) == Z_OK) {
        /* the next member */
    }
    (void)inflateEnd(&z);
    return CONTENT - z.avail_out;
}

/* One member of content[size] into out[most]: its length, or 0 where it does not fit. */
static size_t pack(const uint8_t *content, size_t size, uint8_t *out, size_t most, int level)
{
    z_stream z = {.next_in = (Bytef *)content, .avail_in = (uInt)size, .next_out = out, .avail_out = (uInt)most};
    int code = deflateInit2(&z, level, Z_DEFLATED, GZIP + SMALL_WINDOW, SMALL_MEMORY, Z_DEFAULT_STRATEGY);

    if (code == Z_OK) {
        code = deflate(&z, Z_FINISH);
        (void)deflateEnd(&z);
    }
    return code == Z_STREAM_END ? most - z.avail_out : 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    static uint8_t content[CONTENT];
    const int level = (int)(seed / 6 % 10);
    size_t length = size > 1 && seed % 3 != 0 ? unpack(data + 1, size - 1, content) : 0;
    size_t first, used, second;

    if (length == 0) {
        return LLVMFuzzerMutate(data, size, most);
    }
    length = LLVMFuzzerMutate(content, length, CONTENT);
    first = seed % 2 != 0 ? length : seed / 60 % (length + 1);
    used = pack(content, first, data + 1, most - 1, level);
    second =
        first < length && used > 0 ? pack(content + first, length - first, data + 1 + used, most - 1 - used, level) : 0;
    return used == 0 || (first < length && second == 0) ? LLVMFuzzerMutate(data, size, most) : 1 + used + second;
}
