/* unseen: see unseen.h. */
#include "base/unseen.h"

/* Of Unicode 15, in their order. */
static const struct {
    uint32_t first, last;
} RANGES[] = {
    {0xad, 0xad},       {0x34f, 0x34f},     {0x600, 0x605},     {0x61c, 0x61c},     {0x6dd, 0x6dd},       {0x70f, 0x70f},       {0x890, 0x891},
    {0x8e2, 0x8e2},     {0x115f, 0x1160},   {0x17b4, 0x17b5},   {0x180b, 0x180f},   {0x200b, 0x200f},     {0x202a, 0x202e},     {0x2060, 0x206f},
    {0x3164, 0x3164},   {0xfe00, 0xfe0f},   {0xfeff, 0xfeff},   {0xffa0, 0xffa0},   {0xfff0, 0xfffb},     {0x110bd, 0x110bd},   {0x110cd, 0x110cd},
    {0x13430, 0x1343f}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff},
};

static bool is_unseen(uint32_t c) {
    for (size_t i = 0; i < sizeof RANGES / sizeof *RANGES && RANGES[i].first <= c; i++)
        if (c <= RANGES[i].last)
            return true;
    return false;
}

bool unseen_find(struct span text, uint32_t *code) {
    for (size_t i = 0, len; i < text.n && (len = span_utf8_next(span_sub(text, i, text.n - i), code)); i += len)
        if (is_unseen(*code))
            return true;
    return false;
}

int unseen_refuse(struct span text, const char *what, int code, struct err *err) {
    uint32_t c;
    if (!unseen_find(text, &c))
        return 0;
    return err_set(err, code, "%s has the character U+%04X, which nobody sees: two that differ by it alone would look like one.", what, (unsigned)c);
}
