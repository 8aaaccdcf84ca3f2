/* tests/fuzz/manifest.c - the bytes are a manifest.  One that is taken is, byte for byte, what would be written. */
#include "store/manifest.h"
#include "fuzz.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char name[] = "checkpoint-00000600.h5";
    char text[MANIFEST_TEXT];
    manifest found;
    hsgd_error err = {0};
    const hsgd_status st = manifest_parse((const char *)data, size, name, &found, &err);

    if (st != HSGD_OK) {
        fuzz_check_refusal(st, &err, HSGD_ERR_DATA);
        MUST(found.count == 0);
        return 0;
    }
    MUST(found.count >= 1 && found.count <= MANIFEST_ENTRIES);
    MUST(manifest_format(&found, name, text, &err) == HSGD_OK);
    MUST(strlen(text) == size && memcmp(text, data, size) == 0);
    return 0;
}
