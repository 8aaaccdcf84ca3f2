/* src/deck/parse.h - single values: text to field and back, and what follows from several of them. */
#pragma once
#include "deck/schema.h"

/* Read `value` into the field of `row`.  where: "FILE:LINE" or the word, for messages.  Errors: HSGD_ERR_USAGE. */
hsgd_status parse_value(const schema_row *row, const char *where, const char *value, hsgd_deck *deck, hsgd_error *err);
/* The value of a field as text that reads back to the same value. */
void format_value(const schema_row *row, const hsgd_deck *deck, char *text, size_t size);
/* "at least 1", "between 0 and 1", the choices; "" where anything goes. */
void describe_range(const schema_row *row, char *text, size_t size);
/* Fill the fields that follow from texts and check the keys against each other.  Errors: HSGD_ERR_USAGE. */
hsgd_status parse_derived(hsgd_deck *deck, hsgd_error *err);
