/*
 * lspci.c - fuzz target: a config space that a hostile server made up, to the decoder of `inspect`.
 */
#include "input.h"
#include "target.h"

#include "cli/lspci/lspci.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return 0;
}

/* 256 or 4096 bytes, or as many as there are; sizes of the regions from their end. What is printed is
 * text in lines that end. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[1 << 20];
    struct config c = { .size = size < sizeof c.bytes ? (uint32_t)size : (uint32_t)sizeof c.bytes };
    uint64_t sizes[CONFIG_ADDRESSES] = { 0 };
    FILE *out = fmemopen(text, sizeof text, "w");

    REQUIRE(out);
    if (c.size)
        memcpy(c.bytes, data, c.size);
    if (size >= sizeof sizes)
        memcpy(sizes, data + size - sizeof sizes, sizeof sizes);
    lspci_print(out, &c, sizes);
    long n = ftell(out);
    fclose(out);
    REQUIRE(n >= 0 && n < (long)sizeof text);
    for (long i = 0; i < n; i++)
        REQUIRE(text[i] == '\n' || text[i] == '\t' || (text[i] >= ' ' && text[i] <= '~'));
    REQUIRE(n == 0 || text[n - 1] == '\n');
    return 0;
}
