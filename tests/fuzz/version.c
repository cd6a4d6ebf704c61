/*
 * version.c - fuzz target: the JSON of a VERSION message; and what is understood of it, said again.
 */
#include "input.h"
#include "target.h"

#include "wire/limits.h"
#include "wire/version.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return 0;
}

static bool same(const struct wire_capabilities *a, const struct wire_capabilities *b)
{
    return a->max_msg_fds == b->max_msg_fds && a->max_data_xfer_size == b->max_data_xfer_size &&
           a->max_dma_maps == b->max_dma_maps && a->pgsizes == b->pgsizes &&
           a->write_multiple == b->write_multiple && a->twin_socket == b->twin_socket &&
           (!a->twin_socket || a->twin_socket_fd_index == b->twin_socket_fd_index);
}

/* Text alone and without its end, as a peer may send it; and with the NUL that it should have. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_capabilities said, again;
    char text[512];

    wire_capabilities_parse((const char *)data, size, &said);
    char *whole = malloc(size + 1);
    memcpy(whole, data, size);
    whole[size] = '\0';
    int ret = wire_capabilities_parse(whole, size + 1, &said);
    free(whole);
    if (ret < 0)
        return 0;
    REQUIRE(said.max_msg_fds && said.max_data_xfer_size && said.max_dma_maps && said.pgsizes);
    REQUIRE(said.twin_socket_fd_index >= -1 && said.twin_socket_fd_index < (int)WIRE_MAX_FDS);
    int n = wire_capabilities_format(&said, text, sizeof text);
    REQUIRE(n > 0 && text[n - 1] == '\0');
    REQUIRE(wire_capabilities_parse(text, (size_t)n, &again) == 0 && same(&said, &again));
    return 0;
}
