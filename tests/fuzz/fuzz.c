/* tests/fuzz/fuzz.c - see fuzz.h. */
#include "fuzz.h"
#include "model/layers.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const char *fuzz_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char name[16];

    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        MUST(fd >= 0);
        (void)snprintf(name, sizeof name, "%d", fd);
    }
    MUST(ftruncate(fd, (off_t)size) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    return name;
}

void fuzz_check_refusal(hsgd_status status, const hsgd_error *err, hsgd_status promised)
{
    MUST(status == promised && err->status == promised);
    MUST(err->text[0] != '\0');
    for (const char *c = err->text; *c != '\0'; c++) {
        MUST((unsigned char)*c >= ' ' && *c != 0x7f);
    }
}

/* A written deck is stored as UTF-8 line by line: no line parts a character. */
static void check_characters(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        const bool goes_on = (c[1] & 0xC0) == 0x80;

        MUST(*c < 0x80 ? !goes_on : *c < 0xC0 || goes_on);
    }
}

/* The layers of a deck for images of MNIST's size. */
static void check_layers(const char *layers)
{
    const hsgd_shape image = {.channels = 1, .height = 28, .width = 28};
    hsgd_network *network = NULL;
    hsgd_error err = {0};
    const hsgd_status st = hsgd_network_create(layers, image, 10, &network, &err);

    if (st != HSGD_OK) {
        fuzz_check_refusal(st, &err, HSGD_ERR_USAGE);
        MUST(network == NULL);
        return;
    }
    MUST(network->count > 0 && network->classes >= 10);
    MUST(network->parameters > 0 && network->parameters <= INT32_MAX);
    hsgd_network_destroy(&network);
}

void fuzz_check_deck(const hsgd_deck *deck)
{
    static hsgd_deck again; /* 20 KB and no allocation each time */
    hsgd_error err = {0};
    char *text = NULL, *same = NULL, *keys = NULL, *same_keys = NULL;
    const hsgd_stage stage = deck->stage[deck->stages - 1];

    MUST(deck->stages >= 1 && deck->stages <= HSGD_STAGES);
    MUST(hsgd_deck_format(deck, &text, &err) == HSGD_OK);
    MUST(hsgd_deck_resolve_text("again", text, NULL, 0, &again, &err) == HSGD_OK);
    MUST(hsgd_deck_format(&again, &same, &err) == HSGD_OK);
    MUST(strcmp(text, same) == 0);
    check_characters(text);
    MUST(hsgd_deck_stage_keys(deck, stage, &keys, &err) == HSGD_OK);
    MUST(hsgd_deck_stage_keys(&again, stage, &same_keys, &err) == HSGD_OK);
    MUST(strcmp(keys, same_keys) == 0);
    check_layers(deck->model.layers);
    free(text);
    free(same);
    free(keys);
    free(same_keys);
}
