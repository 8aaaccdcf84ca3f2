/* tests/fuzz/deck.c - the bytes are an input deck. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static hsgd_deck deck;
    hsgd_error err = {0};
    char *text = NULL, path[64];
    hsgd_status st;

    (void)snprintf(path, sizeof path, FUZZ_FOLDER "/%s", fuzz_file(data, size));
    st = hsgd_deck_read(path, &text, &err);
    if (st == HSGD_OK) {
        st = hsgd_deck_resolve_text(path, text, NULL, 0, &deck, &err);
    }
    if (st == HSGD_OK) {
        fuzz_check_deck(&deck);
    } else {
        fuzz_check_refusal(st, &err, HSGD_ERR_USAGE);
    }
    free(text);
    return 0;
}
