/* Sends the same bytes to many sockets. Compiled by `make setup`, used by gateway/compiled_send.py; optional. */

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

/* Sends `size` bytes to each of `count` sockets, without waiting. Notes the numbers of those that did not take all of
   them, and how many each of these took; returns how many these are. An error counts as nothing taken: the caller's own
   write meets it again, and handles it. */
int millrace_fan(const int *sockets, int count, const void *data, size_t size, int *numbers, size_t *taken)
{
    int short_of = 0;
    for (int n = 0; n < count; n++) {
        ssize_t sent = send(sockets[n], data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0 && (size_t)sent == size)
            continue;
        numbers[short_of] = n;
        taken[short_of++] = sent > 0 ? (size_t)sent : 0;
    }
    return short_of;
}
