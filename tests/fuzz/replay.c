/*
 * replay.c - runs a fuzz target on files, without a fuzzer: what an ordinary test does.
 *
 *   fuzz_TARGET FILE|FOLDER...
 */
#include "target.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned inputs;

static void run_file(const char *path)
{
    FILE *f = fopen(path, "r");
    uint8_t *bytes = NULL;
    size_t size = 0;

    if (!f) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(1);
    }
    for (size_t space = 0, n = 1; n; size += n) {
        if (size == space)
            bytes = realloc(bytes, space += 65536);
        n = fread(bytes + size, 1, space - size, f);
    }
    fclose(f);
    /* A place of just this size, where a sanitizer sees each byte that is too many. */
    uint8_t *exactly = malloc(size ? size : 1);
    memcpy(exactly, bytes, size);
    free(bytes);
    puts(path); /* the last one is what ended the program */
    fflush(stdout);
    LLVMFuzzerTestOneInput(exactly, size);
    free(exactly);
    inputs++;
}

static int visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static void run(const char *path)
{
    struct dirent **entries;
    int n = scandir(path, &entries, visible, alphasort);

    if (n < 0) {
        run_file(path);
        return;
    }
    for (int i = 0; i < n; i++) {
        char below[4096];
        snprintf(below, sizeof below, "%s/%s", path, entries[i]->d_name);
        run(below);
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++)
        run(argv[i]);
    printf("%u inputs\n", inputs);
    return inputs ? 0 : 1;
}
