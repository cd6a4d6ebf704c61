/*
 * waits.c - a program that does nothing, for ever: in the place of a keeper.
 */
#include <unistd.h>

int main(void)
{
    for (;;)
        pause();
}
