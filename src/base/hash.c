/* src/base/hash.c - SHA-256, by OpenSSL. */
#include "base/hash.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_AT_ONCE = 1 << 20 }; /* bytes */

static const char NO_HASH[] = "checksum: OpenSSL cannot compute SHA-256; check the library's installation";

static EVP_MD_CTX *begin(void)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    if (context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(context);
        context = NULL;
    }
    return context;
}

static bool end(EVP_MD_CTX *context, char hex[65])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;

    if (EVP_DigestFinal_ex(context, digest, &length) != 1 || length != 32) {
        return false;
    }
    for (unsigned i = 0; i < length; i++) {
        (void)snprintf(hex + 2 * (size_t)i, 3, "%02x", digest[i]);
    }
    return true;
}

hsgd_status hsgd_sha256(int parts, const void *const *data, const size_t *bytes, char hex[65], hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    EVP_MD_CTX *context = begin();
    bool ok = context != NULL;

    for (int i = 0; ok && i < parts; i++) {
        ok = EVP_DigestUpdate(context, data[i], bytes[i]) == 1;
    }
    HSGD_CHECK(ok && end(context, hex), HSGD_ERR_MEMORY, err, "%s", NO_HASH);
done:
    EVP_MD_CTX_free(context);
    return st;
}

hsgd_status hsgd_sha256_open(int file, const char *path, int64_t *bytes, char hex[65], hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    EVP_MD_CTX *context = begin();
    char *buffer = malloc(READ_AT_ONCE);
    ssize_t got;

    *bytes = 0;
    HSGD_CHECK(buffer != NULL, HSGD_ERR_MEMORY, err, "%s: no memory to read it for its checksum", path);
    HSGD_CHECK(context != NULL, HSGD_ERR_MEMORY, err, "%s", NO_HASH);
    do {
        got = read(file, buffer, READ_AT_ONCE);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        HSGD_CHECK(got >= 0, HSGD_ERR_IO, err, "%s: cannot read the file: %s; check the disk", path, strerror(errno));
        HSGD_CHECK(EVP_DigestUpdate(context, buffer, (size_t)got) == 1, HSGD_ERR_MEMORY, err, "%s", NO_HASH);
        *bytes += got;
    } while (got != 0);
    HSGD_CHECK(end(context, hex), HSGD_ERR_MEMORY, err, "%s", NO_HASH);
done:
    free(buffer);
    EVP_MD_CTX_free(context);
    return st;
}

hsgd_status hsgd_sha256_file(const char *path, int64_t *bytes, char hex[65], hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    struct stat info;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe of that name must not make us wait */

    *bytes = 0;
    HSGD_CHECK(file >= 0, HSGD_ERR_IO, err, "%s: cannot open the file: %s", path, strerror(errno));
    HSGD_CHECK(fstat(file, &info) == 0 && S_ISREG(info.st_mode), HSGD_ERR_IO, err, "%s: not a regular file", path);
    HSGD_TRY(hsgd_sha256_open(file, path, bytes, hex, err));
done:
    if (file >= 0) {
        (void)close(file);
    }
    return st;
}
