/* tests/base/test_json.c - mirrors src/base/json.c: a line is JSON whatever it is given. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "support.h"

/* What a text looks like in a line. */
static void assert_spelled(const char *value, const char *spelled)
{
    hsgd_json j;
    char want[256];

    hsgd_json_begin(&j);
    hsgd_json_text(&j, "t", value);
    (void)snprintf(want, sizeof want, "{\"t\": %s}\n", spelled);
    assert_string_equal(hsgd_json_end(&j), want);
}

static void members_stand_in_order_with_their_types(void **state)
{
    hsgd_json j;

    (void)state;
    hsgd_json_begin(&j);
    assert_string_equal(hsgd_json_end(&j), "{}\n");
    hsgd_json_begin(&j);
    hsgd_json_text(&j, "event", "step");
    hsgd_json_integer(&j, "step", INT64_MIN);
    hsgd_json_real(&j, "loss", 0.5);
    hsgd_json_flag(&j, "restart", true);
    hsgd_json_flag(&j, "last", false);
    hsgd_json_text(&j, "file", NULL);
    assert_string_equal(hsgd_json_end(&j), "{\"event\": \"step\", \"step\": -9223372036854775808, \"loss\": 0.5, "
                                           "\"restart\": true, \"last\": false, \"file\": null}\n");
}

static void reals_keep_their_bits_and_look_like_reals(void **state)
{
    const double values[] = {0.0, -0.0, 1.0, 1e22, 0.1, 1.0 / 3.0, DBL_MIN, DBL_TRUE_MIN, DBL_MAX, -2.5e-7};

    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        hsgd_json j;
        char *end = NULL;
        double found;
        const char *line;

        hsgd_json_begin(&j);
        hsgd_json_real(&j, "x", values[i]);
        line = hsgd_json_end(&j);
        found = strtod(line + strlen("{\"x\": "), &end);
        assert_memory_equal(&found, &values[i], sizeof found);
        assert_string_equal(end, "}\n");
        assert_non_null(strpbrk(line, ".e"));
    }
}

static void what_is_not_finite_is_null(void **state)
{
    const double values[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        hsgd_json j;

        hsgd_json_begin(&j);
        hsgd_json_real(&j, "x", values[i]);
        hsgd_json_rounded(&j, "y", values[i]);
        assert_string_equal(hsgd_json_end(&j), "{\"x\": null, \"y\": null}\n");
    }
}

static void times_are_told_to_a_millionth(void **state)
{
    hsgd_json j;
    const char *line;

    (void)state;
    hsgd_json_begin(&j);
    hsgd_json_rounded(&j, "a", 0.0);
    hsgd_json_rounded(&j, "b", 86400.12345678);
    assert_string_equal(hsgd_json_end(&j), "{\"a\": 0.000000, \"b\": 86400.123457}\n");
    hsgd_json_begin(&j);
    hsgd_json_rounded(&j, "x", -DBL_MAX);
    line = hsgd_json_end(&j);
    assert_int_equal(strlen(line), strlen("{\"x\": -.000000}\n") + 309);
}

static void quotes_backslashes_and_control_characters_are_escaped(void **state)
{
    (void)state;
    assert_spelled("", "\"\"");
    assert_spelled("a \"b\" \\c /d", "\"a \\\"b\\\" \\\\c /d\"");
    assert_spelled("\b\t\n\f\r", "\"\\b\\t\\n\\f\\r\"");
    assert_spelled("\x01\x0b\x1f\x7f", "\"\\u0001\\u000b\\u001f\\u007f\"");
}

static void utf8_passes_and_anything_else_becomes_the_replacement_character(void **state)
{
    static const char *const good[] = {"\u00e9",       "\u20ac",       "\U0001d11e",
                                       "\xed\x9f\xbf", "\xee\x80\x80", "\xf4\x8f\xbf\xbf",
                                       "\xc2\x80",     "\xe0\xa0\x80", "\xf0\x90\x80\x80"};
    static const char replaced[] = "\xef\xbf\xbd";
    /* a lone byte of a sequence, one that ends early, longer spellings than needed, a surrogate, beyond U+10FFFF */
    static const struct {
        const char *bytes;
        int replaced; /* characters */
    } bad[] = {{"\x80", 1},
               {"\xc3", 1},
               {"\xe2\x82", 2},
               {"\xf0\x9d\x84", 3},
               {"\xc0\xaf", 2},
               {"\xc1\xbf", 2},
               {"\xe0\x9f\xbf", 3},
               {"\xed\xa0\x80", 3},
               {"\xf0\x8f\xbf\xbf", 4},
               {"\xf4\x90\x80\x80", 4},
               {"\xf5\x80\x80\x80", 4},
               {"\xff", 1},
               {"\xfe", 1}};
    char want[64], given[16];

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        (void)snprintf(want, sizeof want, "\"%s!\"", good[i]);
        (void)snprintf(given, sizeof given, "%s!", good[i]);
        assert_spelled(given, want);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t length = 1;

        want[0] = '"';
        for (int k = 0; k < bad[i].replaced; k++, length += 3) {
            memcpy(want + length, replaced, 3);
        }
        memcpy(want + length, "!\"", 3);
        (void)snprintf(given, sizeof given, "%s!", bad[i].bytes);
        assert_spelled(given, want);
    }
}

static void a_text_is_cut_and_a_member_without_room_is_left_out(void **state)
{
    enum { LONG = 2 * HSGD_JSON_LINE };
    static char text[LONG + 1];
    hsgd_json j;
    size_t members = 0;
    const char *line;

    (void)state;
    memset(text, '\x01', LONG); /* six bytes each */
    hsgd_json_begin(&j);
    hsgd_json_text(&j, "a", text);
    assert_int_equal(j.length, strlen("{\"a\": \"\"") + 6 * HSGD_JSON_TEXT);
    hsgd_json_text(&j, "b", text); /* no room: nothing of it */
    hsgd_json_integer(&j, "c", 7);
    line = hsgd_json_end(&j);
    assert_int_equal(strlen(line), j.length);
    assert_string_equal(line + j.length - strlen("\", \"c\": 7}\n"), "\", \"c\": 7}\n");

    hsgd_json_begin(&j);
    while (members < HSGD_JSON_LINE) { /* until the line is full, to the last byte */
        hsgd_json_integer(&j, "n", 1);
        members++;
    }
    line = hsgd_json_end(&j);
    assert_true(strlen(line) < HSGD_JSON_LINE);
    assert_string_equal(line + strlen(line) - strlen("\"n\": 1}\n"), "\"n\": 1}\n");
}

static void without_a_line_nothing_is_done(void **state)
{
    (void)state;
    hsgd_json_begin(NULL);
    hsgd_json_text(NULL, "t", "x");
    hsgd_json_integer(NULL, "i", 1);
    hsgd_json_real(NULL, "r", 1.0);
    hsgd_json_flag(NULL, "f", true);
    assert_string_equal(hsgd_json_end(NULL), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_stand_in_order_with_their_types),
        cmocka_unit_test(reals_keep_their_bits_and_look_like_reals),
        cmocka_unit_test(what_is_not_finite_is_null),
        cmocka_unit_test(times_are_told_to_a_millionth),
        cmocka_unit_test(quotes_backslashes_and_control_characters_are_escaped),
        cmocka_unit_test(utf8_passes_and_anything_else_becomes_the_replacement_character),
        cmocka_unit_test(a_text_is_cut_and_a_member_without_room_is_left_out),
        cmocka_unit_test(without_a_line_nothing_is_done),
    };

    return test_run(tests);
}
