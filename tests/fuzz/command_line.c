/* tests/fuzz/command_line.c - the first byte parts the words of a command line, which are the others. */
#include "deck/arguments.h"
#include "fuzz.h"
#include <string.h>

enum { MOST = 64 };

/* The words behind the program's name into argv[MOST], each in memory of its own length.  Their number. */
static int split(const uint8_t *data, size_t size, char **argv)
{
    int argc = 1;

    for (size_t start = 1; start <= size && argc < MOST; argc++) {
        size_t end = start;

        while (end < size && data[end] != data[0]) {
            end++;
        }
        argv[argc] = strndup((const char *)data + start, end - start);
        MUST(argv[argc] != NULL);
        start = end + 1;
    }
    return argc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char name[] = "hsgd-dist";
    static hsgd_deck deck;
    char *argv[MOST] = {name};
    const int argc = size > 0 ? split(data, size, argv) : 1;
    hsgd_arguments arguments;
    hsgd_error err = {0};
    hsgd_status st = hsgd_arguments_parse(argc, argv, &arguments, &err);

    if (st == HSGD_OK) {
        MUST(arguments.count < argc);
        st = hsgd_deck_resolve_text(NULL, NULL, arguments.words, arguments.count, &deck, &err);
    }
    if (st == HSGD_OK) {
        fuzz_check_deck(&deck);
    } else {
        fuzz_check_refusal(st, &err, HSGD_ERR_USAGE);
    }
    hsgd_arguments_free(&arguments);
    for (int i = 1; i < argc; i++) {
        free(argv[i]);
    }
    return 0;
}
