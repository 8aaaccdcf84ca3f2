/* tests/store/test_manifest.c - mirrors src/store/manifest.c: what is written is read, and nothing else.
 * ranks: 1 */
#include "store/manifest.h"
#include "support.h"
#include <stdlib.h>

static const char NAME[] = "checkpoint-00000600.h5";
static const manifest TWO = {2,
                             {{123456, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},
                              {INT64_MAX, "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"}}};

static hsgd_status parse(const char *text, size_t length, manifest *out)
{
    hsgd_error err = {0};
    const hsgd_status st = manifest_parse(text, length, NAME, out, &err);

    assert_int_equal(st, err.status);
    return st;
}

static void what_is_written_is_read(void **state)
{
    char text[MANIFEST_TEXT];
    hsgd_error err = {0};

    (void)state;
    for (int count = 1; count <= 2; count++) {
        manifest m = TWO, found;

        m.count = count;
        assert_ok(manifest_format(&m, NAME, text, &err));
        assert_ok(parse(text, strlen(text), &found));
        assert_int_equal(found.count, count);
        for (int i = 0; i < count; i++) {
            assert_int_equal(found.entry[i].bytes, TWO.entry[i].bytes);
            assert_string_equal(found.entry[i].sha256, TWO.entry[i].sha256);
        }
    }
}

static void the_text_is_one_that_sha256sum_reads(void **state)
{
    char text[MANIFEST_TEXT];
    manifest m = TWO;
    hsgd_error err = {0};

    (void)state;
    m.count = 1;
    assert_ok(manifest_format(&m, NAME, text, &err));
    assert_string_equal(text, "# hsgd-dist manifest 1\n# 123456 bytes\n"
                              "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
                              "  checkpoint-00000600.h5\n");
}

static void a_name_that_is_too_long_is_refused(void **state)
{
    char name[MANIFEST_NAME + 2], text[MANIFEST_TEXT];
    hsgd_error err = {0};

    (void)state;
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(manifest_format(&TWO, name, text, &err), HSGD_ERR_IO);
    name[MANIFEST_NAME] = '\0';
    assert_ok(manifest_format(&TWO, name, text, &err));
    assert_int_equal(text[strlen(text) - 1], '\n');
}

/* Whatever one byte becomes, the manifest either is none or tells something else; and so does every shorter one. */
static void no_other_text_says_the_same(void **state)
{
    char text[MANIFEST_TEXT];
    manifest found;
    hsgd_error err = {0};
    size_t length;
    int64_t changes = 0;

    (void)state;
    assert_ok(manifest_format(&TWO, NAME, text, &err));
    length = strlen(text);
    for (size_t i = 0; i < length; i++) {
        const char was = text[i];

        for (int value = 0; value < 256; value++) {
            text[i] = (char)value;
            if (text[i] != was && parse(text, length, &found) == HSGD_OK) {
                assert_int_not_equal(memcmp(&found, &TWO, sizeof found), 0);
            }
            changes++;
        }
        text[i] = was;
        if (parse(text, i, &found) == HSGD_OK) { /* the first entry alone */
            assert_int_equal(found.count, 1);
        }
    }
    print_message("%lld changes of a byte, %zu lengths\n", (long long)changes, length);
}

static void what_is_no_manifest_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "# hsgd-dist manifest 1\n",
        "# hsgd-dist manifest 2\n# 1 bytes\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        "  checkpoint-00000600.h5\n",
        "# hsgd-dist manifest 1\n# 9223372036854775808 bytes\n"
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef  checkpoint-00000600.h5\n",
        "# hsgd-dist manifest 1\n# 01 bytes\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        "  checkpoint-00000600.h5\n",
        "# hsgd-dist manifest 1\n# -1 bytes\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        "  checkpoint-00000600.h5\n",
        "# hsgd-dist manifest 1\n# 1 bytes\n0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef"
        "  checkpoint-00000600.h5\n",
        "# hsgd-dist manifest 1\n# 1 bytes\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        "  ../checkpoint-00000600.h5\n",
        "# hsgd-dist manifest 1\n# 1 bytes\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        "  checkpoint-00000600.h5",
    };
    manifest found;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(parse(texts[i], strlen(texts[i]), &found), HSGD_ERR_DATA);
        assert_int_equal(found.count, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(the_text_is_one_that_sha256sum_reads),
        cmocka_unit_test(a_name_that_is_too_long_is_refused),
        cmocka_unit_test(no_other_text_says_the_same),
        cmocka_unit_test(what_is_no_manifest_is_refused),
    };

    return test_run(tests);
}
