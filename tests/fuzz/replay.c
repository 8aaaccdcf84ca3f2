/* tests/fuzz/replay.c - give a target each file of the folders that are named, as libFuzzer would, but with any compiler.
 * Ends with 1 where there was none. */
#include "fuzz.h"
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

/* One file, in memory of just its size, so that AddressSanitizer sees what reads beyond it. */
static void replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat status;
    uint8_t *bytes;
    size_t size;

    MUST(file != NULL && fstat(fileno(file), &status) == 0);
    size = (size_t)status.st_size;
    bytes = malloc(size > 0 ? size : 1);
    MUST(bytes != NULL && fread(bytes, 1, size, file) == size);
    (void)fclose(file);
    (void)printf("%s\n", path); /* flushed before, so that a finding stands behind its file */
    (void)fflush(stdout);
    MUST(LLVMFuzzerTestOneInput(bytes, size) == 0);
    free(bytes);
}

int main(int argc, char **argv)
{
    int count = 0;

    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        struct dirent *entry;
        char path[4096];

        MUST(folder != NULL);
        while ((entry = readdir(folder)) != NULL) {
            if (entry->d_name[0] != '.') {
                (void)snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
                replay(path);
                count++;
            }
        }
        (void)closedir(folder);
    }
    (void)printf("%d seeds, no finding\n", count);
    return count > 0 ? 0 : 1;
}
