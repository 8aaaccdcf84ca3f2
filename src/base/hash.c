/* src/base/hash.c - SHA-256, by OpenSSL. */
#include "base/hash.h"
#include <openssl/evp.h>
#include <stdio.h>

hsgd_status hsgd_sha256(int parts, const void *const *data, const size_t *bytes, char hex[65], hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int ok = context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;

    for (int i = 0; ok && i < parts; i++) {
        ok = EVP_DigestUpdate(context, data[i], bytes[i]) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(context, digest, &length) == 1 && length == 32;
    HSGD_CHECK(ok, HSGD_ERR_MEMORY, err, "checksum: OpenSSL cannot compute SHA-256; check the library's installation");
    for (unsigned i = 0; i < length; i++) {
        (void)snprintf(hex + 2 * (size_t)i, 3, "%02x", digest[i]);
    }
done:
    EVP_MD_CTX_free(context);
    return st;
}
